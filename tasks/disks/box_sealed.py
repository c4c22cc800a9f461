"""Prepare the disk of a box that has run for shipping: open its root, empty its other volumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploys.errors import BoxError
from deploys.settings import Volumes, own_volumes
from tasks.desk import loop, shell
from tasks.disks import box_disk, partitions, volume_group
from tasks.disks.partitions import Extent


def empty(disk: Path, wanted: Volumes) -> None:
    """Empty all of the volume group but the golden root and the volumes that ship their content.

    The box's other volumes get new filesystems. Unused space, snapshots and unknown volumes become
    holes in the file; unknown volumes keep their place.

    Raises:
        BoxError: it is not the disk of a box with these volumes, or a tool failed.
    """
    part = partitions.extents(disk)[box_disk.LVM]
    lvs = _volumes(disk, wanted)
    anew = [row for row in own_volumes.TABLE if not row.ships_content]
    kept = {wanted.lvroot} | {row.name for row in own_volumes.TABLE if row not in anew}
    emptied = (extent for name, extent in lvs.items() if name not in kept)
    for extent in (*volume_group.unused(part, lvs), *emptied):
        where = ("--offset", str(extent.offset), "--length", str(extent.size))
        shell.run(["fallocate", "--punch-hole", *where, disk])
    for row in anew:
        with _device(disk, lvs[row.name]) as device:
            if row.fstype == "swap":
                shell.run(["mkswap", "--quiet", "--label", row.name, device])
            else:
                partitions.make_ext4(device, row.name)


@contextmanager
def opened(disk: Path, wanted: Volumes, work: Path) -> Iterator[Path]:
    """Mount the golden root, ``/boot`` and the box's own volumes as a chroot; yields its path.

    If the block ends well, everything is flushed and freed blocks become holes in the file.

    Args:
        disk: a raw image that no other process has open.
        wanted: the names of the volumes.
        work: a folder for the mount point.

    Raises:
        BoxError: it is not the disk of a box with these volumes, or it could not be flushed.
    """
    lvs = _volumes(disk, wanted)
    boot = partitions.extents(disk)[box_disk.BOOT]
    with ExitStack() as stack:
        enter = stack.enter_context
        root = enter(loop.temporary_folder(work))
        places = {"": lvs[wanted.lvroot], "boot": boot}
        places |= {row.mount.lstrip("/"): lvs[row.name] for row in own_volumes.mounted()}
        for place, extent in places.items():
            enter(loop.mounted(enter(_device(disk, extent)), root / place))
        with loop.chroot(root):
            yield root
        for place in places:
            # fstrim frees blocks of deleted files only after the journal is committed
            loop.flush(root / place, disk.parent)
            shell.run(["fstrim", root / place])


def _volumes(disk: Path, wanted: Volumes) -> dict[str, Extent]:
    part = partitions.extents(disk)[box_disk.LVM]
    lvs = volume_group.find(disk, part, wanted.volgroup)
    for name in (wanted.lvroot, *(row.name for row in own_volumes.TABLE)):
        if name not in lvs:
            raise BoxError(f"{disk} is not the disk of a box: it has no volume {name}")
    return lvs


@contextmanager
def _device(disk: Path, extent: Extent) -> Iterator[Path]:
    with loop.attached(disk, offset=extent.offset, size=extent.size) as device:
        yield device
