"""The small disk of the test bed: a box's volume group, a root with next to nothing on it.

The group is in a partition, or in a file on the filesystem of a host.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from deploys.operations.root import FILE
from tasks.desk import loop, shell
from tasks.disks import partitions, volume_group
from tasks.disks.identifiers import Fixed, Identifiers
from tasks.disks.partitions import MIB, Extent
from tests.boot.bed import writelog
from tests.boot.lab.recipes import mbr

GROUP = "vagrant-pipeline"
# in the words of a command of LVM's: the disk's volume group is on the first
FIRST, SECOND = "FIRST", "SECOND"
PAYLOAD = b"".join(b"%07d\n" % line for line in range(8192))
_DISK = 224 * MIB
_ROOT, _PERSISTENT = 32 * MIB, 16 * MIB
_BESIDE = 96 * MIB  # of the file's host


Lvm = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk image, and where on it what the tests look at lies.

    ``host`` is a filesystem in whose file ``FILE`` that lies; None: it lies on the disk.
    """

    path: Path
    golden: Extent
    persistent: Extent
    host: Extent | None = None

    def part(self, extent: Extent) -> bytes:
        path = self.path
        if self.host:
            image, _ = _mended_host(self.path, self.path.stat().st_mtime_ns, self.host)
            path = _dumped(image, FILE)
        with path.open("rb") as file:
            file.seek(extent.offset)
            return file.read(extent.size)

    def after(self, writes: Sequence[writelog.Write], path: Path) -> Disk:
        """A copy of it with these writes on it."""
        shell.run(["cp", "--sparse=always", self.path, path])
        writelog.replay(writes, path)
        return replace(self, path=path)


def make_disk(path: Path) -> Disk:
    """A box's disk that never booted: golden root, /persistent with its file, and room."""
    with path.open("wb") as file:
        file.truncate(_DISK)
    part = partitions.partition(path, mbr(MIB))[-1]
    return Disk(path, *_filled(path, part))


def make_disk_in_file(path: Path) -> Disk:
    """The same, but the volume group lies in a file of a host, which has all of its blocks."""
    inner = path.with_suffix(".img")
    with inner.open("wb") as file:
        file.truncate(_DISK)
    volumes = _filled(inner, Extent(0, _DISK))
    with path.open("wb") as file:
        file.truncate(_DISK + _BESIDE)
    [host] = partitions.partition(path, mbr(None))
    with (
        loop.attached(path, offset=host.offset, size=host.size) as device,
        loop.temporary_folder(path.parent) as root,
    ):
        shell.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", device])
        with loop.mounted(device, root):
            of_box = root / FILE[1:]
            of_box.parent.mkdir()
            shell.run(["fallocate", "--length", str(_DISK), of_box])
            copied = ("bs=1M", "conv=notrunc,sparse", "status=none")
            shell.run(["dd", f"if={inner}", f"of={of_box}", *copied])
            (root / "state").write_text("0\n")
    inner.unlink()
    return Disk(path, *volumes, host)


def _filled(path: Path, part: Extent) -> tuple[Extent, Extent]:
    """Make the volume group in a part of an image; where its golden root and /persistent are."""
    wanted = [volume_group.Volume("root", _ROOT), volume_group.Volume("persistent", _PERSISTENT)]
    extents = volume_group.make(path, part, GROUP, wanted, Fixed(Identifiers("the bed"), 0))
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
    return extents["root"], extents["persistent"]


def host_faults(disk: Disk, version: int | None = None) -> list[str]:
    """What is wrong with the host's filesystem, if there is one, when its journal was replayed.

    ``version`` is that of the file on /persistent: the host's own file is as new, or of the version
    before, as it is written next.
    """
    if not disk.host:
        return []
    image, found = _mended_host(disk.path, disk.path.stat().st_mtime_ns, disk.host)
    faults = list(found)
    said = _dumped(image, "/state").read_text(errors="replace")
    if version is not None and said not in (f"{version}\n", f"{version - 1}\n"):
        faults.append(f"the host's own file says {said!r}, not {version}")
    return faults


def ext4_faults(filesystem: Path) -> list[str]:
    """Replay the journal of a filesystem after a power cut, and say what is wrong with it then."""
    replayed = shell.run(["e2fsck", "-fp", filesystem], check=False)
    checked = shell.run(["e2fsck", "-fn", filesystem], check=False)
    if replayed.returncode <= 1 and checked.returncode == 0:
        return []
    return [f"the host's filesystem is not whole: {replayed.stdout[-600:]} {checked.stdout[-600:]}"]


@lru_cache(maxsize=1)  # one disk is asked several times
def _mended_host(disk: Path, _changed: int, host: Extent) -> tuple[Path, list[str]]:
    """A copy of the filesystem of the host, and its faults; see ``ext4_faults``."""
    image = disk.with_suffix(".host")
    place = (f"skip={host.offset}", f"count={host.size}", "iflag=skip_bytes,count_bytes")
    shell.run(["dd", f"if={disk}", f"of={image}", *place, "bs=1M", "conv=sparse", "status=none"])
    return image, ext4_faults(image)


def _dumped(image: Path, name: str) -> Path:
    """A file of a filesystem; empty if it is not there."""
    file = image.with_suffix(".dumped")
    file.write_bytes(b"")
    shell.run(["debugfs", "-R", f"dump {name} {file}", image])
    return file


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
