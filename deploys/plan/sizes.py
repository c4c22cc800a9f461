"""How much room volumes take: extents, copy-on-write areas, what a disk offers."""

from __future__ import annotations

from deploys.facts.lvm import cow_size
from deploys.settings import MIB, Volumes, own_volumes, parse_size

EXTENT = 4 * MIB  # LVM's default, and what vgcreate gives our own groups
# A group filled to the brim can neither grow an LV nor keep a second snapshot for a moment.
RESERVE_PERCENT = 5
_EDGES = 4 * MIB  # before the first partition, the BIOS boot one, behind the last, LVM's header


def round_up(size: int, step: int) -> int:
    return -(-size // step) * step


def human(size: int) -> str:
    """A size for a person to read, as ``5.2 GiB``."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def snapshot_size(origin: int, volumes: Volumes, extent: int = EXTENT) -> int:
    """Bytes that ``lvsize`` asks for when the golden root has ``origin`` bytes."""
    if not volumes.lvsize.endswith("%ORIGIN"):
        return round_up(parse_size(volumes.lvsize), extent)
    percent = int(volumes.lvsize.removesuffix("%ORIGIN"))
    most = cow_size(origin, volumes.chunksize, extent)
    return most if percent >= 100 else round_up(origin * percent // 100, extent)


def group_size(disk: int, boot: int = 0) -> int:
    """Bytes of whole extents that a disk of ``disk`` bytes gives a VG beside ``/boot``."""
    return max(0, disk - boot - _EDGES) // EXTENT * EXTENT


def _others(volumes: Volumes) -> int:
    """Bytes of the box's own volumes, in whole extents."""
    return sum(round_up(row.size(volumes), EXTENT) for row in own_volumes.TABLE)


def root_and_snapshot(group: int, volumes: Volumes) -> int:
    """Bytes of a VG of ``group`` bytes that are left for the root and its snapshot."""
    return group - _others(volumes) - round_up(group * RESERVE_PERCENT // 100, EXTENT)


def largest_root(room: int, volumes: Volumes) -> int:
    """Bytes of the largest root that shares ``room`` with its snapshot; 0 if none does."""
    low, high = 0, max(0, room) // EXTENT
    while low < high:
        middle = (low + high + 1) // 2
        size = middle * EXTENT
        if size + snapshot_size(size, volumes) <= room:
            low = middle
        else:
            high = middle - 1
    return low * EXTENT


def needed_disk(root: int, volumes: Volumes) -> int:
    """Bytes of the smallest disk that holds ``/boot``, a root of ``root`` bytes and the rest."""
    group = root + snapshot_size(root, volumes) + _others(volumes)
    with_reserve = round_up(group * 100 // (100 - RESERVE_PERCENT), EXTENT) + 2 * EXTENT
    return with_reserve + volumes.boot_size + _EDGES
