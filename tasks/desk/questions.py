"""Ask the person at the terminal to confirm a step or to type a password."""

from __future__ import annotations

import getpass
import os
import sys

from invoke.exceptions import Exit

from deploys.errors import BoxError


def confirm(what: str) -> None:
    """Ask whether to go on; raises Exit if the answer is no or there is no terminal."""
    if not sys.stdin.isatty():
        raise Exit(f"error: {what} Say --force if that is meant.", code=1)
    if not is_yes(f"{what} Go on?"):
        raise Exit("nothing was changed", code=1)


def is_yes(question: str) -> bool:
    """Whether the answer is yes; an empty answer is no."""
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def password(prompt: str, descriptor: int, most: int, *, new: bool = False) -> str:
    """Read a password from an open file or from the terminal; it is never an argument of a command.

    Args:
        prompt: what the terminal says.
        descriptor: of the file, whose first line is read; negative: ask on the terminal.
        most: how many bytes of the line are read.
        new: ask twice on the terminal.

    Raises:
        BoxError: it cannot be read, there is no terminal, or the two that were typed differ.
    """
    if descriptor >= 0:
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.readline(most).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BoxError(f"--password-fd {descriptor}: {error}") from error
    if not sys.stdin.isatty():
        raise BoxError("there is no terminal to ask for the password: say --password-fd")
    typed = getpass.getpass(prompt)
    if new and getpass.getpass("once more: ") != typed:
        raise BoxError("the two passwords differ: nothing was changed")
    return typed
