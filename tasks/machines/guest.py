"""The local guest, whatever runs it: what the tasks ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from deploys.errors import BoxError
from tasks.machines import keys, qemu, virtualbox


class Guest(Protocol):
    """A machine on this host, with its folder: ``qemu.Guest`` or ``virtualbox.Guest``."""

    @property
    def alive(self) -> bool:
        """Whether it is on."""

    @property
    def login(self) -> keys.Login:
        """How to log in."""

    @property
    def page(self) -> str:
        """Where its status page is seen on this host."""

    @property
    def disk_usage(self) -> int:
        """What its disks take on this host, in bytes."""

    @property
    def off_to_compact(self) -> bool:
        """Whether ``compact`` powers it off and on."""

    def compact(self) -> int:
        """Give this host what the guest has freed; the bytes that its disks then take."""

    def halt(self, deadline: float = 120) -> None:
        """Power it off in order."""

    def destroy(self) -> None:
        """Remove it, with its folder."""


def find(directory: Path) -> Guest | None:
    """The guest that some process made in a folder; None where there is none.

    Raises:
        BoxError: its note cannot be read.
    """
    return virtualbox.Guest.find(directory) or qemu.Guest.find(directory)


def load(directory: Path) -> Guest:
    """As ``find``, but there must be one.

    Raises:
        BoxError: there is none, or its note cannot be read.
    """
    guest = find(directory)
    if guest is None:
        raise BoxError(f"there is no guest in {directory}: make one with inv up")
    return guest
