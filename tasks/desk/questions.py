"""What is asked of the person at the terminal before something that cannot be undone."""

from __future__ import annotations

import sys

from invoke.exceptions import Exit


def confirm(what: str) -> None:
    """Ask whether to go on; Exit if not, or if nobody can be asked."""
    if not sys.stdin.isatty():
        raise Exit(f"error: {what} Say --force if that is meant.", code=1)
    if not is_yes(f"{what} Go on?"):
        raise Exit("nothing was changed", code=1)


def is_yes(question: str) -> bool:
    """The answer; silence is no."""
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
