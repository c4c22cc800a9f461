"""The one family of errors a user is meant to see."""


class BoxError(Exception):
    """What is wrong and what to do, in one line.

    Every fault that a user can cause or mend is one of these. The tasks print it
    without a traceback and exit with a code that is not 0.
    """


class SettingsError(BoxError):
    """A setting is unknown, mistyped or out of range."""


class PreflightError(BoxError):
    """A host is not fit to be provisioned as asked; nothing on it was changed."""


class DeployError(BoxError):
    """An operation failed on a host."""


class UnreachableError(BoxError):
    """A host cannot be reached, does not know us, or did not come back in time."""


class Interrupted(BoxError):  # noqa: N818 - what Ctrl-C is called; not a fault
    """The user ended the work on a host; it is left as it is."""
