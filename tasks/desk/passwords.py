"""Passwords, as a user hands them over: by an open file or on the terminal, never in a command."""

from __future__ import annotations

import getpass
import os
import sys

from deploys.errors import BoxError


def read(prompt: str, descriptor: int, most: int, *, new: bool = False) -> str:
    """A line of an open file, or what is typed.

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
    password = getpass.getpass(prompt)
    if new and getpass.getpass("once more: ") != password:
        raise BoxError("these are two passwords: nothing was changed")
    return password
