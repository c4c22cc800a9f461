"""The local guest, whatever runs it: what the tasks ask of it, and what a provider must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from deploys.settings import Settings
from tasks.desk import ssh_keys


class Guest(Protocol):
    """A machine on this host, with its folder; each provider has a class of its own for it."""

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """The guest of this provider that some process made in a folder; None where there is none.

        Raises:
            BoxError: its note cannot be read.
        """

    @property
    def provider(self) -> str:
        """The name of its row in tasks/guests/providers.py."""

    @property
    def alive(self) -> bool:
        """Whether it is on."""

    @property
    def is_box(self) -> bool:
        """Whether it was made of a box's image; else it was a bare host."""

    @property
    def login(self) -> ssh_keys.Login:
        """How to log in."""

    @property
    def page(self) -> str:
        """Where its status page is seen on this host."""

    @property
    def root_disk(self) -> Path:
        """The disk that it boots from: of a box, all of it."""

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


@dataclass(frozen=True, slots=True)
class Order:
    """A guest that is to run.

    Attributes:
        directory: its folder.
        state: the folder of what guests share, as images.
        user_key: of the user of a box; made when it is missing.
        settings: of the box, and of the guest.
        bare: whether a new one is a plain host with a spare disk; else it is a box.
        box_image: makes the box's image, if need be, and returns its file.
        step: is told what is done.
    """

    directory: Path
    state: Path
    user_key: Path
    settings: Settings
    bare: bool
    box_image: Callable[[], Path]
    step: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Provider:
    """What runs guests.

    Attributes:
        name: what ``--provider`` is given.
        title: its own name.
        guest: its class of guests.
        start: has the guest of an order run: makes it if there is none, powers it on if it is off.
        programs: what it needs on this host, each with Debian's package.
        bare: whether it runs bare hosts too.
        finalizes: whether a guest's disk can become that of a box for others.
    """

    name: str
    title: str
    guest: type[Guest]
    start: Callable[[Order], Guest]
    programs: Mapping[str, str]
    bare: bool
    finalizes: bool
