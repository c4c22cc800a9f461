"""The errors that a user sees, and the words in them: none that a terminal would obey.

A host's words come in through ``plain`` (deploys/session/root_shell.py); what is parsed out of them
may have escapes of its own, so each error and each table is made plain once more.
"""

import re

# C0 but tab and newline, DEL, C1; soft hyphen; what is invisible, or turns the order of the text
# round (Unicode's Cf, Zl and Zp); halves of surrogate pairs.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONGEST = 2000  # characters of a line


def plain(text: str) -> str:
    """The text with a replacement character for each that a terminal would obey or hide."""
    return _OBEYED.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text made plain, on one line, and cut if it is very long."""
    line = " ".join(plain(text[: 2 * _LONGEST]).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


class BoxError(Exception):
    """An error that a user can cause or mend: one line says what is wrong and what to do.

    The tasks print the line without a traceback, and exit with a code that is not 0.
    """

    def __init__(self, line: str = "") -> None:
        super().__init__(one_line(line))


class SettingsError(BoxError):
    """A setting is unknown, mistyped or out of range."""


class PreflightError(BoxError):
    """A host cannot be provisioned in this way. Nothing on it was changed."""


class NoRoomError(PreflightError):
    """The volume group of a host's root has no room for a box."""


class DeployError(BoxError):
    """An operation failed on a host."""


class UnreachableError(BoxError):
    """A host cannot be reached, refuses the login, or did not come back in time."""


class Interrupted(BoxError):  # noqa: N818 - Ctrl-C is no error
    """The user stopped the work on a host. The host stays as it is."""
