"""The volumes that a box has beside its root and the root's snapshot: one table of them.

A new volume is a row here and its size in ``settings.Volumes``. What follows from a row: the room
that is planned, the volume and its filesystem on hosts and in images, its line in fstab, its mount
point in the root, what is left of it when a box is shipped, and whether ``status`` looks after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploys.facts.mapper import mapper_path
from deploys.settings import Volumes


@dataclass(frozen=True)
class OwnVolume:
    """A row: the LV's name, which is its label too, and what is to be done with it.

    ``size_key`` is the key of its size in ``settings.Volumes``. ``fstype`` is ``ext4`` or
    ``swap``; swap has no ``mount`` point. ``ships_content`` is False for a volume that is made
    anew when a box that has run is shipped. A ``watched`` one must be mounted, writable and not
    full, or ``status`` reports a fault.
    """

    name: str
    size_key: str
    fstype: str
    mount: str = ""
    ships_content: bool = False
    watched: bool = True

    def size(self, volumes: Volumes) -> int:
        """Bytes, as the settings have them."""
        size = getattr(volumes, self.size_key)
        assert isinstance(size, int)
        return size

    def fstab(self, vg: str) -> str:
        """Its line of fstab, see fstab(5): no boot fails for want of it."""
        source = mapper_path(vg, self.name)
        if not self.mount:
            return f"{source} none swap sw,nofail 0 0"
        return f"{source} {self.mount} {self.fstype} defaults,nofail 0 2"


TABLE = (
    OwnVolume("persistent", "persistent_size", "ext4", "/persistent"),
    OwnVolume("swap", "swap_size", "swap"),
)


def mounted() -> tuple[OwnVolume, ...]:
    """Those with a mount point: a host that keeps its volume group gets these, and no swap."""
    return tuple(row for row in TABLE if row.mount)


def watched() -> tuple[str, ...]:
    """The mount points that ``status`` looks after."""
    return tuple(row.mount for row in mounted() if row.watched)


def fstab(vg: str) -> tuple[str, ...]:
    """The lines of fstab for all of them."""
    return tuple(row.fstab(vg) for row in TABLE)
