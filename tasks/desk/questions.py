"""What the person at the terminal is asked: to confirm what cannot be undone, and passwords."""

from __future__ import annotations

import getpass
import os
import sys

from invoke.exceptions import Exit

from deploys.errors import BoxError


def confirm(what: str) -> None:
    """Ask whether to go on; Exit if not, or if nobody can be asked."""
    if not sys.stdin.isatty():
        raise Exit(f"error: {what} Say --force if that is meant.", code=1)
    if not is_yes(f"{what} Go on?"):
        raise Exit("nothing was changed", code=1)


def is_yes(question: str) -> bool:
    """The answer; silence is no."""
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def password(prompt: str, descriptor: int, most: int, *, new: bool = False) -> str:
    """A password: the first line of an open file, or what is typed; never an argument of a command.

    Args:
        prompt: what the terminal says.
        descriptor: of the file; negative: asked for on the terminal.
        most: bytes of the line; what follows is left.
        new: what is typed is asked for twice.

    Raises:
        BoxError: it cannot be read, there is no terminal, or two different ones were typed.
    """
    if descriptor >= 0:
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.readline(most).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BoxError(f"--password-fd {descriptor}: {error}") from error
    if not sys.stdin.isatty():
        raise BoxError("there is no terminal to ask for the password on: say --password-fd")
    typed = getpass.getpass(prompt)
    if new and getpass.getpass("once more: ") != typed:
        raise BoxError("these are two passwords: nothing was changed")
    return typed
