"""Partition disks, make filesystems, and change and mount entries of fstab."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.disks import AttachedFile, BlockDevice, BlockDevices, Filesystems, Fstab
from deploys.operations import Commands

BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
LINUX_LVM = "e6d6d379-f507-44c2-a23c-238f2a3df928"
# The labels of a box's partitions, by which they are known again.
BOOT_LABEL, LVM_LABEL = "resnap-boot", "resnap-lvm"
# Mount options: the boot goes on if the device is missing or late. If it is there, it is mounted
# before anybody can log in. See systemd.mount(5).
NOFAIL = "nofail,x-systemd.before=local-fs.target"
# udev does not open a disk while a tool holds its lock, so the tool never finds it busy.
_LOCK = "--lock=yes"
_MAKE = {
    "ext4": ("mkfs.ext4", "-q"),
    "swap": ("mkswap",),
    "vfat": ("mkfs.fat", "-F", "32"),
}


@dataclass(frozen=True)
class Partition:
    """One GPT partition. ``type`` is a GUID. ``size`` is in bytes; None is the rest of the disk."""

    label: str
    type: str
    size: int | None = None

    def line(self) -> str:
        """The partition as a line for sfdisk(8)."""
        size = "" if self.size is None else f"size={self.size // 1024}KiB, "
        return f'{size}type={self.type}, name="{self.label}"'


def partition_path(disk: str, number: int) -> str:
    """``/dev/vdb3`` or ``/dev/nvme0n1p3``: after a digit the kernel writes a p."""
    return f"{disk}{'p' if disk[-1].isdigit() else ''}{number}"


def has_layout(disk: BlockDevice, layout: Sequence[Partition]) -> bool:
    """Whether the disk has exactly these partitions, by label and size."""
    parts = [child for child in disk.children if child.type == "part"]
    return len(parts) == len(layout) and all(
        part.partlabel == wanted.label and wanted.size in (None, part.size)
        for part, wanted in zip(parts, layout, strict=True)
    )


@operation()
def partition(device: str, layout: Sequence[Partition], wipe: bool = False) -> Commands:
    """Partition a whole disk, and wait for the device nodes.

    Args:
        device: the disk.
        layout: its partitions, in order.
        wipe: first erase what the disk carries. wipefs prints each signature that it erases.

    Raises:
        OperationError: there is no such disk, it is in use, or it is not empty.
    """
    disk = host.get_fact(BlockDevices).find(device)
    if disk is None:
        raise OperationError(f"{device} is not a block device")
    if has_layout(disk, layout) and not wipe:
        host.noop(f"{device} is already partitioned")
        return
    used = [d.path for d in disk.walk() if d.mountpoints or d.type not in (disk.type, "part")]
    if used:
        raise OperationError(f"{used[0]} on {device} is in use")
    if disk.fstype or disk.pttype or disk.children:
        if not wipe:
            raise OperationError(f"{device} is not empty")
        # The disk is the last, as its partitions go with its table.
        for part in reversed(list(disk.walk())):
            yield StringCommand("wipefs --all", _LOCK, QuoteString(part.path))
        yield StringCommand("udevadm settle")
    script = " ".join(shlex.quote(line) for line in ("label: gpt", *(p.line() for p in layout)))
    yield StringCommand(
        f"printf '%s\\n' {script} |",
        f"sfdisk --quiet {_LOCK} --wipe always --wipe-partitions always",
        QuoteString(device),
    )
    last = partition_path(device, len(layout))
    yield StringCommand("udevadm settle && test -b", QuoteString(last))


_LOOP_FILE = """
set -eu
file=$1 size=$2 device=$3
umask 077
mkdir -p "${file%/*}"
rm -f "$file.new"
fallocate --length "$size" "$file.new" || { rm -f "$file.new"; exit 1; }
losetup --direct-io=on "$device" "$file.new"
# Discards, and zeroing, would give the file's blocks back, and the host could fill them.
echo 0 >"/sys/block/${device#/dev/}/queue/discard_max_bytes"
"""


@operation()
def loop_file(path: str, size: int, device: str) -> Commands:
    """Make a file, all of its blocks allocated, and attach it to a loop device.

    Its name ends in .new until the first boot of the box, which renames it. If the power goes
    before, it is made anew.

    Args:
        path: the file; only root gets into the folder that is made for it.
        size: its bytes.
        device: the loop device.
    """
    found = host.get_fact(AttachedFile, path=path)
    if found.attached:
        host.noop(f"{path} is already attached to {found.device}")
        return
    words = ("sh", "-c", _LOOP_FILE, "loop-file", path, str(size), device)
    yield StringCommand(shlex.join(words))


@operation()
def filesystem(device: str, fstype: str, label: str = "", anew: bool = False) -> Commands:
    """Make a filesystem, or swap, on an empty block device.

    Args:
        device: its path. An earlier operation may make the device.
        fstype: ``ext4``, ``swap`` or ``vfat``.
        label: at most 16 bytes; FAT gets none.
        anew: replace a filesystem of this type, which must be empty.

    Raises:
        OperationError: the device carries something else.
    """
    found = host.get_fact(BlockDevices).find(device)
    if found and found.fstype == fstype:
        if not anew:
            host.noop(f"{device} already carries {fstype}")
            return
    elif found and (found.fstype or found.pttype):
        raise OperationError(f"{device} carries {found.fstype or found.pttype}, not {fstype}")
    options = ("-L", QuoteString(label)) if label else ()
    yield StringCommand(*_MAKE[fstype], *options, QuoteString(device))


@operation()
def mounted(target: str) -> Commands:
    """Mount fstab's entry for this directory."""
    if any(mount.target == target for mount in host.get_fact(Filesystems)):
        host.noop(f"{target} is already mounted")
        return
    yield StringCommand("mount", QuoteString(target))


@operation()
def with_options(target: str, options: Sequence[str]) -> Commands:
    """Add the options that fstab's entry for this directory lacks, if there is one."""
    fields = (line.split() for line in host.get_fact(Fstab) if not line.lstrip().startswith("#"))
    found = next((each for each in fields if len(each) > 3 and each[1] == target), None)
    lacks = [each for each in options if found and each not in found[3].split(",")]
    if not lacks:
        host.noop(f"fstab's entry of {target}, if any, has them")
        return
    column, space = "[^[:space:]]+", "[[:space:]]+"
    before = f"^({column}{space}{target}{space}{column}{space}{column})"
    script = shlex.quote(f"s|{before}|\\1,{','.join(lacks)}|")
    yield _changed_fstab(f"sed -E {script}")


@operation()
def fstab_entry(line: str) -> Commands:
    """Have this line in fstab, and no other line for the directory in its second column."""
    if line in host.get_fact(Fstab):
        host.noop("fstab has it already")
        return
    others = shlex.quote(f"^[^#[:space:]]+[[:space:]]+{line.split()[1]}[[:space:]]")
    yield _changed_fstab(f"{{ grep -vE {others}; echo {shlex.quote(line)}; }}")


def _changed_fstab(program: str) -> StringCommand:
    """Put fstab through a filter. Without sync XFS may leave an empty file after the rename."""
    new = "/etc/.fstab.onbox-new"
    steps = (
        f"cp -a /etc/fstab {new}",
        f"{program} </etc/fstab >{new}",
        f"sync -- {new}",
        f"mv -fT -- {new} /etc/fstab",
    )
    return StringCommand(" && ".join(steps))
