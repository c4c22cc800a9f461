"""Plan the disk of a new box from the settings; pure."""

from __future__ import annotations

from dataclasses import dataclass

from deploys.errors import PreflightError
from deploys.facts.mapper import mapper_path
from deploys.operations.disks import Partition
from deploys.operations.root import BOOT_OPTIONS
from deploys.plan.of_spare import spare_layout
from deploys.plan.refusals import check_names
from deploys.plan.result import Kind, Volume, VolumePlan, own_volume
from deploys.plan.sizes import (
    EXTENT,
    group_size,
    human,
    largest_root,
    needed_disk,
    root_and_snapshot,
    round_up,
    snapshot_size,
)
from deploys.settings import GIB, MIB, Settings, own_volumes

# It has one loader of about 2 MiB. FAT16 needs at least about 4 MiB.
ESP_SIZE = 16 * MIB
_LEAST_ROOT = 2 * GIB


@dataclass(frozen=True)
class DiskPlan:
    """The bytes of a disk, its partitions in order, and the LVs in the last of them."""

    size: int
    partitions: tuple[Partition, ...]
    root: Volume
    own: tuple[Volume, ...]

    @property
    def volumes(self) -> tuple[Volume, ...]:
        return (self.root, *self.own)


def plan_disk(settings: Settings) -> DiskPlan:
    """Plan the sizes on a box's disk. Room for the snapshot stays free until the first boot.

    Raises:
        PreflightError: the disk is too small for the volumes, or two of them have one name.
    """
    volumes, size = settings.volumes, round_up(settings.image.disk_size, MIB)
    check_names(volumes, volumes.lvroot)
    layout = spare_layout(volumes, ESP_SIZE)
    _, _, boot, _ = layout
    room = root_and_snapshot(group_size(size, (boot.size or 0) + ESP_SIZE), volumes)
    root = round_up(volumes.root_size or largest_root(room, volumes), EXTENT)
    wanted = max(root, _LEAST_ROOT)
    if wanted + snapshot_size(wanted, volumes) > room:
        needed = needed_disk(wanted, volumes) + ESP_SIZE
        raise PreflightError(
            f"image.disk_size {human(size)} is too small: the volumes need {human(needed)}"
        )
    return DiskPlan(
        size=size,
        partitions=layout,
        root=Volume(volumes.lvroot, root),
        own=tuple(own_volume(None, row, volumes) for row in own_volumes.TABLE),
    )


def box_plan(settings: Settings) -> VolumePlan:
    """The plan that the deploys get: the volumes of a box, with nothing left to do."""
    volumes = settings.volumes
    return VolumePlan(
        Kind.BOX, volumes.volgroup, volumes.lvroot, volumes.lvsnap, lvsize=volumes.lvsize
    )


def fstab(settings: Settings, boot_uuid: str) -> str:
    """The content of a box's ``/etc/fstab``; ``boot_uuid`` is the UUID of ``/boot``."""
    volumes = settings.volumes
    lines = (
        f"{mapper_path(volumes.volgroup, volumes.lvroot)} / ext4 errors=remount-ro 0 1",
        f"UUID={boot_uuid} /boot ext4 {BOOT_OPTIONS} 0 2",
        *own_volumes.fstab(volumes.volgroup),
    )
    return "".join(f"{line}\n" for line in lines)
