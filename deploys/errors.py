"""The errors that a user sees."""


class BoxError(Exception):
    """An error that a user can cause or mend: one line says what is wrong and what to do.

    The tasks print the line without a traceback, and exit with a code that is not 0.
    """


class SettingsError(BoxError):
    """A setting is unknown, mistyped or out of range."""


class PreflightError(BoxError):
    """A host cannot be provisioned in this way. Nothing on it was changed."""


class DeployError(BoxError):
    """An operation failed on a host."""


class UnreachableError(BoxError):
    """A host cannot be reached, refuses the login, or did not come back in time."""


class Interrupted(BoxError):  # noqa: N818 - Ctrl-C is no error
    """The user stopped the work on a host. The host stays as it is."""
