"""Power cuts of a whole host: the disks that one leaves, and whether it comes up from them."""

from __future__ import annotations

import bisect
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.machines import accelerator, image, layout, shell
from tasks.machines.console import Console
from tasks.machines.layout import Extent
from tasks.machines.qemu import Guest
from tests.boot import grubview, writelog
from tests.boot.cuts import Survival
from tests.boot.recording import Recording
from tests.boot.writelog import Cache, Write

# systemd's last step to a console; and what is said where it never comes there
UP = "login: "
LOST = ("grub rescue>", "grub>", "(initramfs)", "emergency mode", "Kernel panic")
VERDICT = "resnap: verdict: "
DEADLINE = 400
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cut:
    """The power goes at one of a recording's looks; what is in the disks' caches fares so."""

    look: int
    cache: Cache
    seed: int = 0

    def name(self, recording: Recording) -> str:
        how = f"{self.cache.value} by {self.seed}" if self.cache is Cache.SOME else self.cache.value
        return f"{recording.step(self.look)}, look {self.look}, cache {how}"


def chosen(looks: Sequence[int], count: int, chance: random.Random) -> list[Cut]:
    """So many cuts at looks by chance, each of the three things happening to the cache."""
    return [
        Cut(chance.choice(looks), cache, chance.randrange(10**6))
        for _, cache in zip(range(count), _forever(), strict=False)
    ]


def _forever() -> Iterator[Cache]:
    while True:
        yield from (Cache.LOST, Cache.SOME, Cache.KEPT)


def places(recording: Recording) -> list[dict[str, Extent]]:
    """What a boot reads of each disk before there is a root, by name: the loader and the partition
    table, LVM's metadata, and /boot, which is the partition before LVM's.
    """
    found = []
    for number, disk in enumerate(recording.disks):
        with tempfile.NamedTemporaryFile() as table:
            file = Path(table.name)
            table.truncate(disk.stat().st_size)
            with disk.open("rb") as before:
                table.write(before.read(MIB))
            table.flush()
            log = writelog.mapped(recording.logs[number])
            writelog.replay([write for _, write in log if write.offset < MIB and write.size], file)
            parts = layout.extents(file)
        names = {"the loader": Extent(0, MIB)}
        if len(parts) > 1:
            names["/boot"] = parts[-2]
        names["LVM's metadata"] = Extent(parts[-1].offset, MIB)
        found.append(names)
    return found


class Requests:
    """The requests of each disk of a recording, by the looks at their logs."""

    def __init__(self, recording: Recording) -> None:
        logs = [writelog.mapped(log) for log in recording.logs]
        self._ends = [[end for end, _ in log] for log in logs]
        self._looks = recording.looks
        self.all = [[write for _, write in log] for log in logs]

    def counts(self, look: int) -> list[int]:
        """How many each disk had had by then."""
        lengths = self._looks[look]
        return [bisect.bisect_right(e, at) for e, at in zip(self._ends, lengths, strict=True)]

    def new(self, look: int) -> list[list[Write]]:
        """Those of each disk since the look before."""
        before, now = self.counts(max(0, look - 1)), self.counts(look)
        return [w[a:b] for w, a, b in zip(self.all, before, now, strict=True)]


class Disks:
    """The disks of a recording, as they are at one look after another; never an earlier one.

    What is certain is written to raw images as it becomes so; what a cut leaves of the caches is
    written over that for the time of a boot.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._requests = Requests(recording)
        self.images = [folder / f"disk{number}.raw" for number in range(len(recording.disks))]
        self._done = [0] * len(self.images)
        for disk, file in zip(recording.disks, self.images, strict=True):
            shell.run(["cp", "--sparse=always", disk, file])

    @contextlib.contextmanager
    def after(self, cut: Cut) -> Iterator[list[Path]]:
        """The images as the cut leaves them."""
        undo: list[tuple[Path, list[Write]]] = []
        for number, count in enumerate(self._requests.counts(cut.look)):
            writes, file = self._requests.all[number], self.images[number]
            start = self._done[number]
            assert count >= start, "an earlier look was asked for"
            flushes = (at for at in range(count - 1, start - 1, -1) if writes[at].is_flush)
            certain = next(flushes, start)
            writelog.replay([write for write in writes[start:certain] if write.size], file)
            self._done[number] = certain
            left = writelog.surviving(writes[certain:count], cut.cache, cut.seed + number)
            undo.append((file, _content(file, left)))
            writelog.replay(left, file)
        try:
            yield self.images
        finally:
            for file, content in undo:
                writelog.replay(content, file)


def at_places(
    recording: Recording, looks: Sequence[int], count: int, chance: random.Random
) -> list[Cut]:
    """So many cuts by chance at writes to each of the disks' places; see ``places``."""
    requests = Requests(recording)
    cuts = set()
    for number, names in enumerate(places(recording)):
        for part in names.values():
            found = [look for look in looks if _touches(requests.new(look)[number], part)]
            cuts |= set(chosen(found, count, chance)) if found else set()
    return sorted(cuts, key=lambda cut: cut.look)


def _touches(writes: Iterable[Write], part: Extent) -> bool:
    return any(
        write.offset < part.offset + part.size and write.offset + write.size > part.offset
        for write in writes
        if write.size
    )


def _content(file: Path, writes: Sequence[Write]) -> list[Write]:
    """What is where these would write; in the order in which it is to be put back."""
    found = []
    with file.open("rb") as stream:
        for write in writes:
            stream.seek(write.offset)
            found.append(Write(write.offset, write.size, stream.read(write.size)))
    return found


def grub_finds(
    recording: Recording, looks: range, folder: Path, chance: random.Random
) -> dict[str, Survival]:
    """What GRUB would start after a cut at every write to the first disk's /boot.

    It must be as at one of the looks at which a step began or the last one ended: by then what the
    step made is whole. The menu and what it starts may be as at two of them, as they are replaced
    one after the other. A part of the cache is lost by chance, twice.
    """
    parts = places(recording)[0]
    boot = f"loop0,{list(parts).index('/boot')}"
    requests, disks = Requests(recording), Disks(recording, folder)
    rests = {at for _, at in recording.steps if at in looks} | {looks[0], looks[-1]}
    menus, started, views = set(), set(), {}
    for look in looks:
        if not (look in rests or _touches(requests.new(look)[0], parts["/boot"])):
            continue
        for cache in (Cache.KEPT, Cache.LOST, Cache.SOME, Cache.SOME):
            cut = Cut(look, cache, chance.randrange(10**6))
            with disks.after(cut) as (image, *_):
                views[cut.name(recording)] = view = grubview.of(image, boot)
            if look in rests and cache is Cache.KEPT:
                assert view is not None
                menus.add(view.menu)
                started.add((view.kernel, view.initrd))
    return {
        name: Survival((), 0, 0)
        if view and view.menu in menus and (view.kernel, view.initrd) in started
        else Survival((f"GRUB finds {view}",), 0, 0)
        for name, view in views.items()
    }


@dataclass(frozen=True, slots=True)
class Came:
    """A boot after a cut: the reset's verdict (None: it is no box yet), and what is wrong."""

    verdict: str | None
    faults: tuple[str, ...]
    seconds: float
    console: str


@contextlib.contextmanager
def booted(
    disks: Sequence[Path], recording: Recording, folder: Path, accel: accelerator.Accelerator
) -> Iterator[Guest]:
    """The machine is switched on, on overlays of these disks."""
    folder.mkdir()
    overlays = [image.overlay(disk, folder / f"{disk.stem}.qcow2") for disk in disks]
    machine = recording.machine.model_copy(update={"disks": tuple(overlays)})
    with Guest.start(folder, machine, recording.identity, accel) as guest:
        yield guest


def comes_up(guest: Guest, verdicts: Sequence[str | None]) -> Came:
    """Wait until the machine asks for a login, with no hand laid on.

    Args:
        guest: it was switched on a moment ago.
        verdicts: what the reset may say.
    """
    begin = time.monotonic()
    while time.monotonic() - begin < DEADLINE and guest.alive:
        if any(guest.console.says(word) for word in (UP, *LOST)):
            break
        time.sleep(0.2)
    seconds = time.monotonic() - begin
    console = guest.console.text()
    verdict = _verdict(console)
    faults = []
    if UP not in console:
        faults.append("it does not come up")
    faults += [f"it says {word}" for word in LOST if word in console]
    if verdict not in verdicts:
        faults.append(f"the verdict is {verdict}")
    if "EXT4-fs error" in console:
        faults.append("a filesystem has errors")
    if faults:
        faults.append(f"its last words: {Console(guest.directory / 'serial.log').tail(1200)}")
    return Came(verdict, tuple(faults), seconds, console)


def _verdict(console: str) -> str | None:
    _, found, rest = console.rpartition(VERDICT)
    return rest.split()[0].rstrip(":") if found else None


def survive(
    recording: Recording,
    cuts: Iterable[Cut],
    folder: Path,
    accel: accelerator.Accelerator,
    verdicts: Sequence[str | None],
    seen: Callable[[Guest, str], None] = lambda _guest, _name: None,
) -> dict[str, Survival]:
    """What came of each cut, by its name; ``seen`` is shown each machine that came up."""
    disks = Disks(recording, folder)
    found = {}
    for cut in sorted(cuts, key=lambda cut: cut.look):
        name = cut.name(recording)
        boot = folder / "boot"
        with (
            disks.after(cut) as images,
            booted(images, recording, boot, accel) as guest,
        ):
            came = comes_up(guest, verdicts)
            print(
                f"{came.seconds:5.1f} s, verdict {came.verdict}: {name}", *came.faults, sep="\n  "
            )
            if not came.faults:
                seen(guest, name)
        found[name] = Survival(came.faults, came.seconds, 0)
        shutil.rmtree(boot)
    return found
