"""The table of a box's volumes besides its root and the root's snapshot.

To add a volume, add a row here and its size to ``settings.Volumes``. The rest follows from the row:
the planned room, the volume and its filesystem on hosts and in images, its line in fstab, its mount
point in the root, whether its content is shipped, and whether ``status`` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploys.facts.mapper import mapper_path
from deploys.settings import Volumes


@dataclass(frozen=True)
class OwnVolume:
    """One volume; ``name`` is that of the LV, and the label of its filesystem.

    ``size_key`` is the key of its size in ``settings.Volumes``. ``fstype`` is ``ext4`` or
    ``swap``; swap has no ``mount`` point. A volume that does not ship its content is made anew
    when a box that has run is shipped. A ``watched`` one must be mounted, writable and not full,
    or ``status`` reports a fault.
    """

    name: str
    size_key: str
    fstype: str
    mount: str = ""
    ships_content: bool = False
    watched: bool = True

    def size(self, volumes: Volumes) -> int:
        """Its size in the settings, in bytes."""
        size = getattr(volumes, self.size_key)
        assert isinstance(size, int)
        return size

    def fstab(self, vg: str) -> str:
        """Its line in fstab(5); the box boots without the volume, too.

        What outlives a reset is data: a set-user-ID program that root left there would make the
        next job root.
        """
        source = mapper_path(vg, self.name)
        if not self.mount:
            return f"{source} none swap sw,nofail 0 0"
        return f"{source} {self.mount} {self.fstype} defaults,nodev,nosuid,nofail 0 2"


TABLE = (
    OwnVolume("persistent", "persistent_size", "ext4", "/persistent"),
    OwnVolume("swap", "swap_size", "swap"),
)


def mounted() -> tuple[OwnVolume, ...]:
    """The volumes with a mount point. A host that keeps its volume group gets only these."""
    return tuple(row for row in TABLE if row.mount)


def watched() -> tuple[str, ...]:
    """The mount points that ``status`` checks."""
    return tuple(row.mount for row in mounted() if row.watched)


def fstab(vg: str) -> tuple[str, ...]:
    """The lines in fstab of all volumes."""
    return tuple(row.fstab(vg) for row in TABLE)
