"""The table of providers, which run guests. A provider is a folder here and a row in this table."""

from __future__ import annotations

from pathlib import Path

from deploys.errors import BoxError
from tasks.guests import Guest, Provider
from tasks.guests.qemu import provider as qemu
from tasks.guests.virtualbox import provider as virtualbox

# The first is the default.
PROVIDERS = {row.name: row for row in (qemu.PROVIDER, virtualbox.PROVIDER)}


def names() -> str:
    """The names of all providers in words: ``qemu or virtualbox``."""
    *others, last = PROVIDERS
    return " or ".join([*([", ".join(others)] if others else []), last])


def help_line() -> str:
    """The help of ``--provider``."""
    return f"What runs a new guest: {names()}; without it, {next(iter(PROVIDERS))}."


def chosen(directory: Path, name: str = "") -> Provider:
    """Choose the provider for a folder: the named one, else that of its guest, else the default.

    Raises:
        BoxError: there is no such provider, or the folder's guest is of another.
    """
    if name and name not in PROVIDERS:
        raise BoxError(f"no provider is called {name!r}: say {names()}")
    here = find(directory)
    if here is None:
        return PROVIDERS[name or next(iter(PROVIDERS))]
    if name not in ("", here.provider):
        raise BoxError(
            f"there is a guest of {here.provider} already: remove it first, with inv destroy"
        )
    return PROVIDERS[here.provider]


def find(directory: Path) -> Guest | None:
    """Find the guest in a folder, of whichever provider; None if there is none.

    Raises:
        BoxError: its note cannot be read.
    """
    found = (row.guest.find(directory) for row in PROVIDERS.values())
    return next((guest for guest in found if guest is not None), None)


def load(directory: Path) -> Guest:
    """Find the guest in a folder, which must have one.

    Raises:
        BoxError: there is none, or its note cannot be read.
    """
    guest = find(directory)
    if guest is None:
        raise BoxError(f"there is no guest in {directory}: make one with inv up")
    return guest
