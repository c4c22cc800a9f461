"""A test bed for the initramfs alone: the box's own kernel and initrd, on a small disk.

The disk has the box's volume group with a small root, and no system: a script in the place of the
initramfs's last step says what came of the reset (tests/boot/bed/initrd). What takes long, the
kernel and udev, is done once for each command line: the memory of a machine that waits for its disk
is kept, and each boot goes on from there, with the disk plugged in. That takes seconds.

Each boot starts from a copy of a disk image, and leaves the log of what it wrote. What a power cut
leaves is made from the two (writelog.py): nothing that the guest did not flush is taken for
certain, whatever the page cache of this machine kept.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from tasks.desk import shell
from tasks.guests.qemu import accelerator, qmp
from tests.boot.bed import bedinitrd, writelog
from tests.boot.bed.beddisk import GROUP, Disk

SNAPSHOT = "/dev/mapper/vagrant--pipeline-root_snap"
GOLDEN = "/dev/mapper/vagrant--pipeline-root"
_ARGUMENTS = f"console=ttyS0 quiet ro volgroup={GROUP} lvroot=root lvsnap=root_snap"


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot that is over: what its console said, and what it wrote."""

    console: str
    writes: Sequence[writelog.Write]

    def said(self, word: str) -> list[str]:
        """What the bed's script said under this word, a text for each time."""
        lines = (f"{line.rpartition('bed: ')[2].strip()} " for line in self.console.splitlines())
        return [line[len(word) :].strip() for line in lines if line.startswith(f"{word} ")]

    @property
    def verdict(self) -> str | None:
        return next(iter(self.said("verdict")), None)

    @property
    def notes(self) -> dict[str, str]:
        """The content of the verdict; where a key comes twice, the last."""
        return dict(note.split("=", 1) for note in self.said("note"))

    @property
    def seconds(self) -> float:
        """The guest's clock when the verdict was there; 0 if none was."""
        return float(self.notes.get("verdict_at", 0))

    @property
    def reset_seconds(self) -> float:
        """From when the disk was there to the verdict."""
        return self.seconds - float(self.notes.get("disk", self.seconds))

    @property
    def calls(self) -> int:
        """How many commands the reset had called."""
        return len(self.said("call"))


@dataclass(frozen=True)
class Bed:
    """What boots: the same for all its boots, ``folder`` is theirs alone.

    ``memories`` are those of machines that wait for their disks, by the initrd's name; other beds,
    of other processes too, may have the same folder. ``volfile`` is the path on the first partition
    of the file with the volume group; empty: it is on the disk.
    """

    folder: Path
    kernel: Path
    initrd: Path
    accel: accelerator.Accelerator
    memories: Path
    volfile: str = ""

    def with_file(self, name: str, text: str) -> Bed:
        """The same bed, but for one file of the initramfs."""
        initrd = self.folder / f"{self.initrd.name}-{_digest(name, text)}"
        if not initrd.exists():
            bedinitrd.make_initrd(self.initrd, initrd, {name: text})
        return replace(self, initrd=initrd)

    def hanging(self) -> Bed:
        """The same bed, but its reset never ends."""
        return self.with_file("usr/lib/resnap/resnap", "#!/bin/sh\nwhile :; do sleep 60; done\n")

    def boot(
        self,
        disk: Disk,
        *words: str,
        until: str = "bed: wrote",
        later: float = 0,
        root: str = SNAPSHOT,
        whole: bool = False,
        beside: Disk | None = None,
        deadline: float = 120,
    ) -> Boot:
        """Boot a disk, which stays as it is, and cut the power.

        Args:
            disk: what it boots from.
            words: more arguments of the kernel.
            until: the power is cut when the console has said this, and ``later`` seconds after.
            root: the device that is to be the root.
            whole: boot from the beginning; else go on where a machine with these arguments waits
                for its disk, which is plugged in then.
            beside: a second disk of a whole boot.
            deadline: seconds after which it is cut in any case.
        """
        image, log = self.folder / "disk.raw", self.folder / "log"
        shell.run(["cp", "--sparse=always", disk.path, image])
        log.write_bytes(b"")
        where = f"root=/dev/vda1 volfile={self.volfile} box" if self.volfile else ""
        arguments = f"{_ARGUMENTS} {where}root={root} {' '.join(words)}"
        more = _blocks(image, log)
        if whole:
            more += ["-device", "virtio-blk-pci,drive=disk"]
            if beside:
                more += ["-drive", f"file={beside.path},format=raw,snapshot=on,if=virtio"]
        else:
            more += ["-incoming", f"exec:cat {self._waiting(arguments)}"]
        with self._machine(arguments, more) as machine:
            if not whole:
                machine.wait(machine.is_running, deadline)
                machine.qmp("device_add", driver="virtio-blk-pci", drive="disk", bus="hot")
            machine.wait(lambda: until in machine.console, deadline)
            time.sleep(later)
        return Boot(machine.console, writelog.read(log))

    def _waiting(self, arguments: str) -> Path:
        """The memory of a machine that has no disk yet and waits for it."""
        memory = self.memories / f"memory-{_digest(arguments, self.initrd.name)}"
        with FileLock(f"{memory}.lock"):
            if not memory.exists():
                with self._machine(arguments, []) as machine:
                    said = bedinitrd.WAITS if self.volfile else "resnap: waiting for"
                    machine.wait(lambda: said in machine.console, 200)
                    machine.qmp("migrate", uri=f"exec:cat >{memory}.new")
                    machine.wait(machine.has_migrated, 60)
                Path(f"{memory}.new").rename(memory)
        return memory

    @contextmanager
    def _machine(self, arguments: str, more: Sequence[str]) -> Iterator[_Machine]:
        """A machine that is on; its power is cut at the end."""
        serial, monitor = self.folder / "serial.log", self.folder / "qmp.sock"
        serial.write_bytes(b"")
        monitor.unlink(missing_ok=True)
        argv = [accelerator.QEMU, "-nodefaults", "-display", "none", "-no-reboot"]
        argv += ["-machine", "q35,vmport=off", *self.accel.argv(), "-smp", "1", "-m", "512M"]
        argv += ["-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", arguments]
        argv += ["-serial", f"file:{serial}", "-qmp", f"unix:{monitor},server=on,wait=off"]
        argv += ["-device", "pcie-root-port,id=hot,chassis=1", *more]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            try:
                yield _Machine(process, serial, monitor)
            finally:
                process.kill()


def _blocks(image: Path, log: Path) -> list[str]:
    """The disk, and the log of what is written to it; the host's own flushes save nothing here."""
    lower = "driver=file,discard=unmap,cache.no-flush=on"
    return [
        *("-blockdev", f"{lower},node-name=image,filename={image}"),
        *("-blockdev", f"{lower},node-name=log,filename={log}"),
        *("-blockdev", "driver=blklogwrites,node-name=disk,discard=unmap,file=image,log=log"),
    ]


@dataclass(frozen=True, slots=True)
class _Machine:
    """A QEMU process of the bed."""

    process: subprocess.Popen[bytes]
    serial: Path
    monitor: Path

    @property
    def console(self) -> str:
        return self.serial.read_text(errors="replace")

    def qmp(self, name: str, **arguments: object) -> object:
        return qmp.command(self.monitor, name, **arguments)

    def is_running(self) -> bool:
        try:
            return self._status("query-status") == "running"
        except qmp.QmpError:
            return False  # it does not listen yet

    def has_migrated(self) -> bool:
        return self._status("query-migrate") == "completed"

    def _status(self, query: str) -> object:
        answer = self.qmp(query)
        assert isinstance(answer, dict)
        return answer.get("status")

    def wait(self, condition: Callable[[], bool], deadline: float) -> None:
        """Until it holds, the machine is off, or the time is up."""
        end = time.monotonic() + deadline
        while not condition() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
