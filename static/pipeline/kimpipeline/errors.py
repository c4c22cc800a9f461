"""What can go wrong, each in one line."""


class PipelineError(Exception):
    """What is wrong, in one line; the commands print it and exit with a code that is not 0."""


class ItemError(PipelineError):
    """An item is unknown, or not what KIM's format asks for."""


class RunError(PipelineError):
    """A pair ran and failed: its runner did, or a limit was met, or its results are not valid."""


class SandboxError(PipelineError):
    """A pair could not be started in its sandbox; this machine is at fault, not the pair."""


class QueueError(PipelineError):
    """The queue cannot be reached, or it would not take a message."""


class LostError(PipelineError):
    """A job is not this worker's any more: its time to run passed without a sign of life."""


class MessageError(PipelineError):
    """A message is not one."""


class TransferError(PipelineError):
    """An item could not be fetched, or a result not delivered."""
