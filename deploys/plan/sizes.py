"""Sizes of volumes, snapshots and disks, in bytes and whole extents."""

from __future__ import annotations

from deploys.errors import PreflightError
from deploys.facts.lvm import cow_size
from deploys.settings import GIB, MIB, Volumes, own_volumes, parse_size

EXTENT = 4 * MIB  # LVM's default, also for the VGs that we make
# A VG without free extents could not grow an LV, or have a second snapshot for a short time.
RESERVE_PERCENT = 5
# Room before the first partition and after the last, for the BIOS boot partition and LVM's header.
_EDGES = 4 * MIB


def round_up(size: int, step: int) -> int:
    return -(-size // step) * step


def human(size: int) -> str:
    """Write a size for a person to read, as ``5.2 GiB``."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def snapshot_size(origin: int, volumes: Volumes) -> int:
    """Bytes of the snapshot, by ``volumes.lvsize``, of a golden root of ``origin`` bytes."""
    if not volumes.lvsize.endswith("%ORIGIN"):
        return round_up(parse_size(volumes.lvsize), EXTENT)
    percent = int(volumes.lvsize.removesuffix("%ORIGIN"))
    most = cow_size(origin, volumes.chunksize, EXTENT)
    return most if percent >= 100 else round_up(origin * percent // 100, EXTENT)


def group_size(disk: int, boot: int = 0) -> int:
    """Bytes of the VG on a disk of ``disk`` bytes, of which ``boot`` are for other partitions."""
    return max(0, disk - boot - _EDGES) // EXTENT * EXTENT


def _others(volumes: Volumes) -> int:
    """Bytes of the box's own volumes, in whole extents."""
    return sum(round_up(row.size(volumes), EXTENT) for row in own_volumes.TABLE)


def root_and_snapshot(group: int, volumes: Volumes) -> int:
    """Bytes that a VG of ``group`` bytes has for the golden root and its snapshot."""
    return group - _others(volumes) - round_up(group * RESERVE_PERCENT // 100, EXTENT)


def largest_root(room: int, volumes: Volumes) -> int:
    """Bytes of the largest golden root that fits into ``room`` with its snapshot; 0 if none."""
    low, high = 0, max(0, room) // EXTENT
    while low < high:
        middle = (low + high + 1) // 2
        size = middle * EXTENT
        if size + snapshot_size(size, volumes) <= room:
            low = middle
        else:
            high = middle - 1
    return low * EXTENT


def least_root(used: int, volumes: Volumes) -> int:
    """Bytes that the copy of a root that has ``used`` bytes in it needs.

    Raises:
        PreflightError: the settings want a smaller one.
    """
    least = round_up(max(used * 13 // 10, GIB) + GIB, EXTENT)
    if volumes.root_size is not None and volumes.root_size < least:
        raise PreflightError(
            f"volumes.root_size {human(volumes.root_size)} is too small: the root in use needs "
            f"{human(least)}"
        )
    return least


def needed_disk(root: int, volumes: Volumes) -> int:
    """Bytes of the smallest disk for a golden root of ``root`` bytes and all other volumes."""
    return needed_file(root, volumes) + volumes.boot_size


def needed_file(root: int, volumes: Volumes) -> int:
    """The same of a file, which has no ``/boot``."""
    group = root + snapshot_size(root, volumes) + _others(volumes)
    with_reserve = round_up(group * 100 // (100 - RESERVE_PERCENT), EXTENT) + 2 * EXTENT
    return with_reserve + _EDGES
