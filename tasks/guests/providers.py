"""The providers of guests: a row for each. The rest of a provider is its own files."""

from __future__ import annotations

from pathlib import Path

from deploys.errors import BoxError
from tasks.guests import Guest, Provider
from tasks.guests.qemu import provider as qemustart
from tasks.guests.virtualbox import provider

# Where nobody says another, the first is taken.
PROVIDERS = {row.name: row for row in (qemustart.PROVIDER, provider.PROVIDER)}


def names() -> str:
    """All of them, as a line says it: ``qemu or virtualbox``."""
    *others, last = PROVIDERS
    return " or ".join([*([", ".join(others)] if others else []), last])


def help_line() -> str:
    """The help of ``--provider``."""
    return f"What runs a new guest: {names()}; not given: the first."


def chosen(directory: Path, name: str = "") -> Provider:
    """What runs the guest of a folder: the one of this name, else that of the guest that is there.

    Raises:
        BoxError: there is no such provider, or the guest that is there is of another.
    """
    if name and name not in PROVIDERS:
        raise BoxError(f"no provider is called {name!r}: it is {names()}")
    here = find(directory)
    if here is None:
        return PROVIDERS[name or next(iter(PROVIDERS))]
    if name not in ("", here.provider):
        raise BoxError(
            f"the guest that is here is one of {here.provider}: remove it first, with inv destroy"
        )
    return PROVIDERS[here.provider]


def find(directory: Path) -> Guest | None:
    """The guest that some process made in a folder; None where there is none.

    Raises:
        BoxError: its note cannot be read.
    """
    found = (row.guest.find(directory) for row in PROVIDERS.values())
    return next((guest for guest in found if guest is not None), None)


def load(directory: Path) -> Guest:
    """As ``find``, but there must be one.

    Raises:
        BoxError: there is none, or its note cannot be read.
    """
    guest = find(directory)
    if guest is None:
        raise BoxError(f"there is no guest in {directory}: make one with inv up")
    return guest
