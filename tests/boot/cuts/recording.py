"""A host while it is worked on: all that it wrote to its disks, and where each step began.

QEMU's blklogwrites is put between the guest's disks and their files as soon as it is on, so the
logs begin with the disks' first requests. They know no time: a thread looks at the length of all
of them, so often that between two looks there are a few requests. A cut is at such a look alone, as
only then it is known what each of the disks had; of one disk nobody has to guess how far the other
was.

The NVRAM of UEFI firmware is logged as a disk is: its flash is a file that QEMU writes through at
every byte that is programmed. So it is known at each look to the byte, in the middle of a variable
too; it has no cache, and no cut takes back what was written to it.
"""

from __future__ import annotations

import bisect
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from tasks.desk import ssh_keys
from tasks.desk.progress import HostProgress
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import MIB, Machine
from tests.boot.lab.box import Box, reached
from tests.hosts.guest import Guest
from tests.hosts.machine import starts_by_uefi, without_flushes

Look = tuple[int, ...]
_EVERY = 0.001
_NOTE = "recording.json"


class Recording(BaseModel):
    """A walk that is over: the disks before it (raw), their logs, and its steps.

    ``firmware`` is the file of UEFI's code (None: BIOS), ``nvram`` what it kept before it. ``logs``
    are those of
    ``media``, in that order. ``looks`` are the lengths of the logs, in bytes, each time that one
    had grown; ``steps`` are names, and the look after which each began.
    """

    model_config = ConfigDict(frozen=True)

    machine: Machine
    identity: ssh_keys.Identity
    disks: tuple[Path, ...]
    firmware: Path | None = None
    nvram: Path | None = None
    logs: tuple[Path, ...]
    looks: list[Look]
    steps: list[tuple[str, int]]

    @property
    def media(self) -> tuple[Path, ...]:
        """All that is written to, as it was before: the disks, and last the NVRAM."""
        return self.disks if self.nvram is None else (*self.disks, self.nvram)

    def within(self, first: str, last: str) -> range:
        """The looks from the first step that begins with one text, to the next of the other."""
        start = next(look for name, look in self.steps if name.startswith(first))
        ends = (look for name, look in self.steps if name.startswith(last) and look > start)
        return range(start, next(ends))

    def step(self, look: int) -> str:
        """The step that went on then."""
        place = bisect.bisect_right([at for _, at in self.steps], look)
        return self.steps[place - 1][0] if place else "before"


class Recorder(HostProgress):
    """Notes the lengths of the logs, and the steps of a provision as a user is told of them.

    ``folder`` gets the note; ``before`` are the disks as the guest found them. ``firmware`` and
    ``nvram`` are as in a ``Recording``.
    """

    def __init__(
        self,
        folder: Path,
        machine: Machine,
        identity: ssh_keys.Identity,
        before: Sequence[Path],
        firmware: Path | None,
        nvram: Path | None,
    ) -> None:
        super().__init__("box", Progress(disable=True))
        self.logs = [folder / f"log{number}" for number in range(len(before))]
        self.logs += [folder / "log-nvram"] if nvram else []
        for log in self.logs:
            log.touch()
        self._folder, self._machine, self._identity = folder, machine, identity
        self._before, self._firmware, self._nvram = before, firmware, nvram
        self._looks: list[Look] = []
        self._steps: list[tuple[str, int]] = []
        self._descriptors = [os.open(log, os.O_RDONLY) for log in self.logs]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def save(self) -> None:
        """Write the note of what was recorded so far: ``load`` has it."""
        recording = Recording(
            machine=self._machine,
            identity=self._identity,
            disks=tuple(self._before),
            firmware=self._firmware,
            nvram=self._nvram,
            logs=tuple(self.logs),
            looks=list(self._looks),
            steps=list(self._steps),
        )
        (self._folder / _NOTE).write_text(recording.model_dump_json())

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()
            for descriptor in self._descriptors:
                os.close(descriptor)

    def step(self, name: str) -> None:
        self._steps.append((name, len(self._looks)))
        super().step(name)

    def operation(self, name: str, number: int, total: int) -> None:
        self._steps.append((f"{self._step}: {name}", len(self._looks)))
        super().operation(name, number, total)

    def _watch(self) -> None:
        last: Look = ()
        while not self._over.is_set():
            look = tuple(os.fstat(descriptor).st_size for descriptor in self._descriptors)
            if look != last:
                self._looks.append(look)
                last = look
            time.sleep(_EVERY)


@contextmanager
def recorded(
    folder: Path,
    base: bare.BaseImage,
    spare: int,
    cpus: int,
    accel: accelerator.Accelerator,
    firmware: tuple[Path, Path] | None = None,
) -> Iterator[tuple[Box, Recorder]]:
    """A bare host that is on and lets us in, all of whose requests are logged from its power-on.

    ``spare`` are the bytes of a second disk; 0: none. ``firmware`` is UEFI's code and
    the NVRAM that comes with it; None: BIOS. At the end the power is cut, and ``load`` has what the
    folder keeps of it.
    """
    folder.mkdir()
    disks = [bare.overlay(base.path, folder / "root.qcow2")]
    before = [base.path]
    if spare:
        disks.append(bare.empty_disk(folder / "spare.qcow2", spare))
        before.append(folder / "spare.raw")
        with before[-1].open("wb") as file:
            file.truncate(spare)
    machine = Machine(disks=tuple(disks), cpus=cpus, arguments=without_flushes(len(disks)))
    code, empty = firmware or (None, None)
    recorder = Recorder(folder, machine, base.identity, before, code, empty)
    started = with_firmware(machine, code, empty, folder)
    try:
        with recorder.watching(), Guest.start(folder, started, base.identity, accel) as guest:
            if empty:  # first: it is the first that is written to
                _log_nvram(guest, recorder.logs[-1])
            for number, log in enumerate(recorder.logs[: len(before)]):
                _log_disk(guest, number, log)
            with reached(guest) as box:
                yield box, recorder
            recorder.step("power cut")
    finally:
        recorder.save()


def load(folder: Path) -> Recording:
    """What ``recorded`` left in a folder."""
    return Recording.model_validate_json((folder / _NOTE).read_text())


def with_firmware(machine: Machine, code: Path | None, nvram: Path | None, folder: Path) -> Machine:
    """The machine with this firmware, and a copy of its NVRAM in ``folder``; None: with BIOS."""
    if code is None or nvram is None:
        return machine
    copy = Path(shutil.copy(nvram, folder / "nvram.fd"))
    words = (*machine.arguments, *starts_by_uefi(code, copy))
    return machine.model_copy(update={"arguments": words})


def _log_disk(guest: Guest, number: int, log: Path) -> None:
    """Log what the guest writes to one of its disks; its firmware writes nothing as yet."""
    logged = _log(guest, f"disk{number}", log)
    # The device joins requests to as many pieces as a system call takes; with the log's own there
    # is one too many, and the guest has an I/O error. No piece is smaller than a page.
    guest.qmp(
        "blockdev-add",
        driver="blkdebug",
        discard="unmap",
        image=logged,
        **{"node-name": f"short{number}", "max-transfer": MIB},
    )
    device = f"/machine/peripheral/disk{number}-device"
    guest.qmp("qom-set", path=device, property="drive", value=f"short{number}")


def _log_nvram(guest: Guest, log: Path) -> None:
    """Log what the firmware writes to its second flash; it takes seconds to begin with that."""
    logged = _log(guest, "pflash1", log)
    guest.qmp("qom-set", path="/machine/system.flash1", property="drive", value=logged)


def _log(guest: Guest, drive: str, log: Path) -> str:
    """Put a log before the file of a drive; the name of the node that is to be written to."""
    nodes = guest.qmp("query-block")
    assert isinstance(nodes, list)
    [file] = [row["inserted"]["node-name"] for row in nodes if row["device"] == drive]
    guest.qmp(
        "blockdev-add",
        driver="blklogwrites",
        discard="unmap",
        file=file,
        log={"driver": "file", "filename": str(log), "cache": {"no-flush": True}},
        **{"node-name": f"{drive}-logged"},
    )
    return f"{drive}-logged"
