"""Guests on this host: what every guest and every provider must offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from deploys.settings import Settings
from tasks.desk import ssh_keys
from tasks.guests import folder


class Guest(Protocol):
    """A virtual machine on this host, and its folder; each provider has its own class."""

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """Find this provider's guest in a folder; None if there is none.

        Raises:
            BoxError: the guest's note cannot be read.
        """

    @property
    def provider(self) -> str:
        """The provider's name in tasks/guests/providers.py."""

    @property
    def alive(self) -> bool:
        """Whether it is on."""

    @property
    def is_box(self) -> bool:
        """Whether it was made from a box's image, not as a bare host."""

    @property
    def login(self) -> ssh_keys.Login:
        """How to log in."""

    @property
    def page(self) -> str:
        """The address of its status page, for use on this host."""

    @property
    def root_disk(self) -> Path:
        """The disk that it boots from; a box has no other."""

    @property
    def disk_usage(self) -> int:
        """The room that its disks take on this host, in bytes."""

    @property
    def off_to_compact(self) -> bool:
        """Whether ``compact`` powers it off and on again."""

    def compact(self) -> int:
        """Give freed blocks back to this host; returns the bytes that its disks then take."""

    def halt(self, deadline: float = folder.OFF_DEADLINE) -> None:
        """Shut it down, in at most ``deadline`` seconds."""

    def destroy(self) -> None:
        """Remove it and its folder."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a provider needs to make and start a guest.

    ``directory`` is the guest's folder, ``state`` that of what guests share, such as images. The
    user's private key is made when it is missing. A ``bare`` guest is a host, not a box: with a
    spare disk, or, if ``in_file`` is not 0, with room for a file of so many bytes on its only one.
    ``box_image`` returns the box's image, which it makes if necessary; ``step`` is called with the
    name of each step.
    """

    directory: Path
    state: Path
    user_key: Path
    settings: Settings
    bare: bool
    box_image: Callable[[], Path]
    step: Callable[[str], None]
    in_file: int = 0


@dataclass(frozen=True, slots=True)
class Provider:
    """A program that runs guests.

    ``name`` is the word for ``--provider``, ``title`` that for messages. ``start`` makes the guest
    if there is none, and powers it on if it is off. ``programs`` are those that it needs on this
    host, each with Debian's package. ``bare``: it runs bare hosts too. ``finalizes``:
    ``inv box.finalize`` takes its guests.
    """

    name: str
    title: str
    guest: type[Guest]
    start: Callable[[Order], Guest]
    programs: Mapping[str, str]
    bare: bool
    finalizes: bool
