"""Write whole filesystems into a disk image; the same files give the same bytes.

The filesystems are never mounted: the kernel places blocks differently from one time to the next.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from deploys.errors import BoxError
from tasks.debian.chroot import chroot_output
from tasks.desk import loop, shell
from tasks.disks.identifiers import Fixed
from tasks.disks.partitions import Extent

KIB = 1024
_SECTOR = 512


def write_ext4(
    root: Path, source: str, disk: str, extent: Extent, label: str, fixed: Fixed
) -> None:
    """Write an ext4 filesystem with the files of a folder.

    The mke2fs of the chroot writes it: from version 1.47.1 on it sorts names, and no time is later
    than SOURCE_DATE_EPOCH.

    Args:
        root: the chroot that has the tool.
        source: the folder, a path in the chroot.
        disk: the disk image, a path in the chroot.
        extent: the partition or volume.
        label: of the filesystem; its identifiers follow from it.
        fixed: the image's identifiers and time.

    Raises:
        BoxError: the files do not fit.
    """
    # If the inode tables were cleared lazily, the kernel would clear them again in each snapshot.
    extended = f"offset={extent.offset},hash_seed={fixed.identifiers.uuid(f'{label} hash')}"
    extended += ",lazy_itable_init=0,lazy_journal_init=0"
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-U", fixed.identifiers.uuid(label)]
    argv += ["-E", extended, "-d", source, disk, f"{extent.size // KIB}k"]
    try:
        chroot_output(root, *argv, epoch=fixed.time)
    except shell.CommandError as error:
        if "allocate" not in error.stderr:
            raise
        raise BoxError(f"the files of {label} do not fit in {extent.size} bytes") from error


def write_swap(disk: Path, extent: Extent, label: str, fixed: Fixed) -> None:
    """Write an empty swap area; its identifier follows from the label."""
    with loop.attached(disk, offset=extent.offset, size=extent.size) as device:
        argv = ["mkswap", "--quiet", "--label", label, "--uuid", fixed.identifiers.uuid(label)]
        shell.run([*argv, device])


def write_esp(disk: Path, extent: Extent, files: Mapping[str, Path], fixed: Fixed) -> None:
    """Write a FAT filesystem; ``files`` maps paths in it, as ``EFI/BOOT/X.EFI``, to sources."""
    time = {"SOURCE_DATE_EPOCH": str(fixed.time), "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
    with tempfile.TemporaryDirectory(prefix="esp-") as folder:
        esp = Path(folder) / "esp"
        with esp.open("wb") as file:
            file.truncate(extent.size)
        sectors = str(extent.size // _SECTOR)
        argv: list[str | Path] = ["mformat", "-i", esp, "-T", sectors, "-h", "16", "-s", "32", "-N"]
        shell.run([*argv, fixed.identifiers.serial("esp"), "-v", "ESP", "::"], env=time)
        parents = (str(parent) for path in files for parent in PurePosixPath(path).parents)
        for folder_in_it in sorted({parent for parent in parents if parent != "."}):
            shell.run(["mmd", "-i", esp, f"::{folder_in_it}"], env=time)
        for path, source in files.items():
            shell.run(["mcopy", "-i", esp, source, f"::{path}"], env=time)
        with disk.open("r+b") as file:
            file.seek(extent.offset)
            file.write(esp.read_bytes())
