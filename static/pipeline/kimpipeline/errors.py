"""The runner's errors; the text of each is one line."""


class PipelineError(Exception):
    """Says in one line what is wrong; a command prints it and exits with a code that is not 0."""


class ItemError(PipelineError):
    """An item does not exist, or is not in KIM's format."""


class RunError(PipelineError):
    """A pair failed: its runner failed, it exceeded a limit, or its results are not valid."""


class SandboxError(PipelineError):
    """A sandbox could not start or end a job; the machine is at fault, not the pair."""


class QueueError(PipelineError):
    """The queue cannot be reached, or it refused a message."""


class LostError(PipelineError):
    """A worker lost its job: the job's time to run passed without a sign of life."""


class MessageError(PipelineError):
    """A message has a wrong form, or is too long."""


class TransferError(PipelineError):
    """An item could not be fetched, or results could not be delivered."""
