"""Power cuts of a whole host: whether it comes up from what one leaves, or GRUB does."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.console import Console
from tests.boot.bed.writelog import Cache
from tests.boot.cuts import places
from tests.boot.cuts.cuts import Survival
from tests.boot.cuts.hostdisks import Cut, Disks, Requests
from tests.boot.cuts.recording import Recording, with_firmware
from tests.boot.lab import grubview
from tests.hosts.guest import Guest

# systemd's last step to a console; and what is said where it never comes there
UP = "login: "
LOST = (
    *("No bootable option", "Shell>", "grub rescue>", "grub>"),
    *("(initramfs)", "emergency mode", "Kernel panic"),
)
VERDICT = "resnap: verdict: "
DEADLINE = 400


def grub_finds(
    recording: Recording, looks: range, folder: Path, chance: random.Random
) -> dict[str, Survival]:
    """What GRUB would start after a cut at every write to the first disk's /boot.

    It must be as at one of the looks at which a step began or the last one ended: by then what the
    step made is whole. The menu and what it starts may be as at two of them, as they are replaced
    one after the other. A part of the cache is lost by chance, twice.
    """
    parts = places.of(recording)[0]
    boot = f"loop0,{list(parts).index('/boot')}"
    requests, disks = Requests(recording), Disks(recording, folder)
    rests = {at for _, at in recording.steps if at in looks} | {looks[0], looks[-1]}
    menus, started, views = set(), set(), {}
    for look in looks:
        if not (look in rests or places.touches(requests.new(look)[0], parts["/boot"])):
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
    media: Sequence[Path], recording: Recording, folder: Path, accel: accelerator.Accelerator
) -> Iterator[Guest]:
    """The machine is switched on, on overlays of these disks, and on a copy of the NVRAM."""
    folder.mkdir()
    disks = media[: len(recording.disks)]
    overlays = [bare.overlay(disk, folder / f"{disk.stem}.qcow2") for disk in disks]
    machine = recording.machine.model_copy(update={"disks": tuple(overlays)})
    nvram = next(iter(media[len(disks) :]), None)
    machine = with_firmware(machine, recording.firmware, nvram, folder)
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
