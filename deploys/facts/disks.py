"""Facts about block devices: what they carry and where they are mounted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase

_LSBLK_COLUMNS = "NAME,PATH,TYPE,SIZE,FSTYPE,PTTYPE,MOUNTPOINTS,UUID,PARTLABEL,PARTTYPE,RO"
# A box has nothing on RAM disks, floppies and CD drives, and probing an empty drive can hang.
_LSBLK = "lsblk --exclude 1,2,11"


@dataclass(frozen=True)
class BlockDevice:
    """One block device and what lies on it (partitions, LVs).

    ``size`` is in bytes. ``type`` is lsblk's: disk, part, lvm, loop, crypt, raid1 ... A string is
    empty if the device has no such value. ``mountpoints`` has ``[SWAP]`` for swap in use.
    """

    path: str
    type: str
    size: int
    fstype: str = ""
    pttype: str = ""
    mountpoints: tuple[str, ...] = ()
    uuid: str = ""
    partlabel: str = ""
    parttype: str = ""
    ro: bool = False
    children: tuple[BlockDevice, ...] = ()

    def walk(self) -> Iterator[BlockDevice]:
        """Yield this device, then every device that lies on it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class BlockTree:
    """All block devices of a host, whole disks at the top."""

    disks: tuple[BlockDevice, ...] = ()

    def find(self, path: str) -> BlockDevice | None:
        return next((d for disk in self.disks for d in disk.walk() if d.path == path), None)

    def disks_under(self, path: str) -> tuple[BlockDevice, ...]:
        """The whole disks on which the device at ``path`` lies: several for an LV that spans."""
        return tuple(disk for disk in self.disks if any(d.path == path for d in disk.walk()))

    def stack(self, path: str) -> tuple[BlockDevice, ...]:
        """The device at ``path`` and every device it lies on."""
        every = (device for disk in self.disks for device in disk.walk())
        return tuple(device for device in every if any(d.path == path for d in device.walk()))


@dataclass(frozen=True)
class Mount:
    """One mounted filesystem; sizes in bytes."""

    target: str
    source: str
    fstype: str
    size: int = 0
    used: int = 0
    avail: int = 0


class BlockDevices(FactBase[BlockTree]):
    """The host's block devices as a ``BlockTree``.

    The tree is lsblk's, which repeats what udev last noted. ``blkid --probe`` reads each device
    itself: so the fact is also right just after a change, and where no udev runs.
    """

    default = BlockTree

    def requires_command(self) -> str:
        return "lsblk"

    def command(self) -> str:
        # blkid fails for an empty device, and stops at a device with two signatures that exclude
        # each other. So it is started for each device alone.
        return (
            f"{_LSBLK} --json --bytes --tree --output {_LSBLK_COLUMNS} | tr -d '\\n'; echo; "
            f"{_LSBLK} --noheadings --raw --output PATH | sort -u"
            " | xargs -n 1 blkid --probe --output export || true"
        )

    def process(self, output: list[str]) -> BlockTree:
        probed = _probed(output[1:])
        tree = json.loads(output[0])["blockdevices"]
        return BlockTree(tuple(_device(node, probed) for node in tree))


class Filesystems(FactBase[tuple[Mount, ...]]):
    """The filesystems that are mounted from block devices, with their usage."""

    default = tuple

    def command(self) -> str:
        columns = "TARGET,SOURCE,FSTYPE,SIZE,USED,AVAIL"
        return f"findmnt --json --bytes --real --list --output {columns}"

    def process(self, output: list[str]) -> tuple[Mount, ...]:
        return tuple(
            Mount(
                target=row["target"],
                source=_device_of(row["source"], row["fstype"]),
                fstype=row["fstype"],
                # null if the filesystem does not say
                size=int(row["size"] or 0),
                used=int(row["used"] or 0),
                avail=int(row["avail"] or 0),
            )
            for row in json.loads("\n".join(output))["filesystems"]
        )


def _device_of(source: str, fstype: str) -> str:
    """Of btrfs findmnt says the subvolume too: /dev/vda1[/@rootfs], as on Debian."""
    return source.partition("[")[0] if fstype == "btrfs" else source


@dataclass(frozen=True)
class LoopFile:
    """A file that a loop device may have as its disk.

    ``size`` is in bytes; 0: there is no such file. ``whole``: its box was booted; until then its
    name ends in .new. ``device`` is the loop device that has it; else, with ``attached`` false, the
    first one that is free. It is empty if there is none.
    """

    size: int = 0
    whole: bool = False
    device: str = ""
    attached: bool = False


class AttachedFile(FactBase[LoopFile]):
    """What is known of the file at ``path`` as a :class:`LoopFile`."""

    default = LoopFile

    def command(self, path: str) -> StringCommand:
        script = (
            'for file in "$1" "$1.new"; do '
            '[ ! -e "$file" ] || stat --format="size %s" -- "$file"; '
            'losetup --noheadings --output NAME --associated "$file" | sed "s/^/attached /"; '
            'done; [ ! -e "$1" ] || echo whole yes; losetup --find | sed "s/^/free /"'
        )
        words = ("sh", "-c", script, "attached-file")
        return StringCommand(shlex.join(words), QuoteString(path), "2>/dev/null || true")

    def process(self, output: list[str]) -> LoopFile:
        said = dict(line.split()[:2] for line in reversed(output) if " " in line)
        return LoopFile(
            int(said.get("size", 0)),
            "whole" in said,
            said.get("attached") or said.get("free", ""),
            "attached" in said,
        )


class RealPath(FactBase[str]):
    """Where a path such as ``/dev/disk/by-id/...`` leads; empty if it does not exist."""

    default = str

    def command(self, path: str) -> StringCommand:
        return StringCommand("readlink", "-e", "--", QuoteString(path), "|| true")


class Links(FactBase[tuple[str, ...]]):
    """The links to a device, as ``/dev/disk/by-id/...`` and ``/dev/block/253:16``."""

    default = tuple

    def command(self, device: str) -> StringCommand:
        return StringCommand(
            "find -L /dev/disk /dev/block -samefile", QuoteString(device), "2>/dev/null || true"
        )

    def process(self, output: list[str]) -> tuple[str, ...]:
        return tuple(output)


class Signatures(FactBase[tuple[str, ...]]):
    """Every signature on a device (``gpt``, ``ext4``, ``LVM2_member`` ...).

    wipefs reads them: of two signatures that exclude each other it names both, and blkid none.
    """

    default = tuple

    def command(self, device: str) -> StringCommand:
        return StringCommand(
            "wipefs", "--noheadings", "--output", "TYPE", "--", QuoteString(device), "|| true"
        )

    def process(self, output: list[str]) -> tuple[str, ...]:
        # wipefs finds GPT twice (primary and backup), and the protective MBR beside it.
        found = tuple(dict.fromkeys(line.strip() for line in output if line.strip()))
        return tuple(name for name in found if not (name == "PMBR" and "gpt" in found))


class KernelSize(FactBase[int]):
    """Bytes of the largest kernel plus the largest initrd in ``/boot``; 0 if there is none."""

    default = int

    def command(self) -> str:
        return (
            "find /boot -maxdepth 1 -type f '(' -name 'vmlinuz-*' -o -name 'initrd.img-*' ')'"
            " -printf '%f %s\\n'"
        )

    def process(self, output: list[str]) -> int:
        sizes = {"vmlinuz": 0, "initrd.img": 0}
        for line in output:
            name, size = line.rsplit(" ", 1)
            kind = name.partition("-")[0]
            sizes[kind] = max(sizes[kind], int(size))
        return sum(sizes.values())


class Fstab(FactBase[tuple[str, ...]]):
    """The lines of ``/etc/fstab``."""

    default = tuple

    def command(self) -> str:
        return "cat /etc/fstab 2>/dev/null || true"

    def process(self, output: list[str]) -> tuple[str, ...]:
        return tuple(output)


def _probed(lines: list[str]) -> dict[str, dict[str, str]]:
    """Parse blkid's export format: KEY=value lines; DEVNAME is the first line of each device."""
    devices: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition("=")
        if key == "DEVNAME":
            current = devices.setdefault(value, {})
        elif value:
            current[key] = value.replace("\\", "")
    return devices


def _device(node: Mapping[str, Any], probed: Mapping[str, Mapping[str, str]]) -> BlockDevice:
    seen = probed.get(node["path"], {})

    def read(column: str, tag: str) -> str:
        return seen.get(tag) or node.get(column) or ""

    return BlockDevice(
        path=node["path"],
        type=node["type"],
        size=int(node["size"]),
        fstype=read("fstype", "TYPE"),
        # lsblk gives a partition the PTTYPE of its disk; only a partition's own table counts.
        pttype="" if node["type"] == "part" else read("pttype", "PTTYPE"),
        mountpoints=tuple(point for point in node["mountpoints"] if point),
        uuid=read("uuid", "UUID"),
        partlabel=read("partlabel", "PART_ENTRY_NAME"),
        parttype=read("parttype", "PART_ENTRY_TYPE"),
        ro=bool(node["ro"]),
        children=tuple(_device(child, probed) for child in node.get("children", ())),
    )
