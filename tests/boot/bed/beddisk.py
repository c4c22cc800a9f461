"""The small disk of the test bed: a box's volume group, a root with next to nothing on it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.desk import loop, shell
from tasks.disks import partitions, volume_group
from tasks.disks.partitions import MIB, Extent
from tests.boot.bed import writelog
from tests.boot.lab.recipes import mbr

GROUP = "vagrant-pipeline"
# in the words of a command of LVM's: the disk's volume group is on the first
FIRST, SECOND = "FIRST", "SECOND"
PAYLOAD = b"".join(b"%07d\n" % line for line in range(8192))
_DISK = 224 * MIB
_ROOT, _PERSISTENT = 32 * MIB, 16 * MIB


Lvm = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk image, and where on it what the tests look at lies."""

    path: Path
    golden: Extent
    persistent: Extent

    def part(self, extent: Extent) -> bytes:
        with self.path.open("rb") as file:
            file.seek(extent.offset)
            return file.read(extent.size)

    def after(self, writes: Sequence[writelog.Write], path: Path) -> Disk:
        """A copy of it with these writes on it."""
        shell.run(["cp", "--sparse=always", self.path, path])
        writelog.replay(writes, path)
        return Disk(path, self.golden, self.persistent)


def make_disk(path: Path) -> Disk:
    """A box's disk that never booted: golden root, /persistent with its file, and room."""
    with path.open("wb") as file:
        file.truncate(_DISK)
    part = partitions.partition(path, mbr(MIB))[-1]
    wanted = [volume_group.Volume("root", _ROOT), volume_group.Volume("persistent", _PERSISTENT)]
    extents = volume_group.make(path, part, GROUP, wanted)
    files = {"root": {"name": b"golden\n"}, "persistent": {"state": state(0)}}
    for name, content in files.items():
        folder = path.with_name(f"{path.stem}-{name}")
        folder.mkdir()
        for file_name, data in content.items():
            (folder / file_name).write_bytes(data)
        argv: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", name, "-d", folder]
        offset = f"offset={extents[name].offset}"
        shell.run([*argv, "-E", offset, path, f"{extents[name].size // 1024}k"])
        shutil.rmtree(folder)
    return Disk(path, extents["root"], extents["persistent"])


def state(version: int) -> bytes:
    """The file on /persistent, as the script of the bed writes its versions."""
    return b"%d\n" % version + PAYLOAD + b"%d\n" % version


def version(disk: Disk) -> int | None:
    """Which version the file on /persistent is, after a replay of the journal; None: none."""
    image = disk.path.with_suffix(".persistent")
    image.write_bytes(disk.part(disk.persistent))
    shell.run(["e2fsck", "-fy", image], check=False)  # what it mends is told by its exit code
    shell.run(["debugfs", "-R", f"dump /state {image}.state", image])
    content = Path(f"{image}.state").read_bytes()
    number = content.partition(b"\n")[0]
    return int(number) if number.isdigit() and content == state(int(number)) else None


@contextlib.contextmanager
def lvm(disk: Disk, second: Path) -> Iterator[Lvm]:
    """LVM's commands on the group of a disk that is off and a second disk; see FIRST, SECOND."""
    part = partitions.extents(disk.path)[-1]
    with (
        loop.attached(disk.path, offset=part.offset, size=part.size) as first,
        loop.attached(second) as other,
    ):
        config = lvm_config(first, other)
        names = {FIRST: first, SECOND: other}

        def run(name: str, *words: str) -> None:
            argv: list[str | Path] = ["lvm", name, "--config", config, "-y"]
            shell.run([*argv, *(names.get(word, word) for word in words)])

        yield run


def made_again(disk: Disk, folder: Path) -> Disk:
    """A copy of the disk whose group was removed and made again, after it had had a long life.

    Nothing but LVM's metadata differs; that life has left its texts there.
    """
    again = disk.after([], folder / "again.raw")
    second = folder / "second.raw"
    second.write_bytes(bytes(MIB))
    quietly = ("-an", "-Zn", "-Wn")
    with lvm(again, second) as tool:
        for number in range(8):
            tool("lvcreate", *quietly, "-n", f"other{number}", "-L", "4M", GROUP)
        tool("vgremove", "--force", GROUP)
        tool("vgcreate", GROUP, FIRST)
        for name, extent in (("root", disk.golden), ("persistent", disk.persistent)):
            tool("lvcreate", *quietly, "-n", name, "-L", f"{extent.size}B", GROUP)
    return again


def has_group(disk: Disk) -> bool:
    """Whether LVM can read the volume group of a disk that is off."""
    part = partitions.extents(disk.path)[-1]
    with loop.attached(disk.path, offset=part.offset, size=part.size) as device:
        config = lvm_config(device)
        done = shell.run(["lvm", "vgs", "--config", config, GROUP], check=False)
    return done.returncode == 0


def lvm_config(*devices: Path) -> str:
    """LVM's settings for work on devices of this machine, without the kernel's device-mapper."""
    accepted = "".join(f'"a|^{device}$|",' for device in devices)
    return (
        f'devices {{ filter=[{accepted}"r|.*|"] use_devicesfile=0 '
        'obtain_device_list_from_udev=0 external_device_info_source="none" } '
        "global { activation=0 } backup { backup=0 archive=0 }"
    )
