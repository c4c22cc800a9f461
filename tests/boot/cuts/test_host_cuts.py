"""The power goes while a host is made a box, or a box is changed: it boots with no hand laid on.

Each kind of host is provisioned once, for real, with all its requests logged (recording.py): that
tells the disks that a cut at any instant can leave, and what UEFI's NVRAM was then. Machines are
booted from some of them, by chance and where a boot looks first, until systemd asks for a login.
Some are then provisioned.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tests.boot.conftest import CPUS, GIB, INSTALLED
from tests.boot.cuts import cutreport, hostcuts, hostdisks, places, recording, walks
from tests.boot.cuts.hostdisks import Cut
from tests.boot.cuts.recording import Recording
from tests.boot.lab import uefi
from tests.boot.lab.box import LEAN, Box, reached
from tests.boot.lab.recipes import Recipe
from tests.hosts.guest import Guest

pytestmark = pytest.mark.long

# The same seed gives the same cuts of the same recording; a recording is another in each run.
SEED = int(os.environ.get("CUTS_SEED") or random.randrange(10**6))
SPARE = "/dev/vdb"
BIOS_PLAIN = Recipe(extra=INSTALLED)
# Hosts that UEFI starts, and what they are; the others' images are the whole run's.
UEFI = {"plain, UEFI": uefi.PLAIN_HOST, "lvm, UEFI": uefi.LVM_HOST}
# From here on a provision touches what firmware reads.
LOADER = "building the volumes: Boot of the copied root | Name of the loader"


@dataclass(frozen=True, slots=True)
class Work:
    """A part of what is done to a host: from one step up to another, and what its reset may say.

    None is no reset: the host is no box yet.
    """

    host: str
    name: str
    first: str
    last: str
    verdicts: tuple[str | None, ...] = ("fresh",)


WORKS = (
    Work("lvm", "provision", "building", walks.OVER, (None, "fresh")),
    Work("lvm", "into maintenance", "booting into", "securing", ("fresh", "golden")),
    Work("lvm", "update", "securing", "trying the change"),
    Work("lvm", "trial of an update", "trying the change", walks.OVER),
    Work("lvm", "a kernel by hand", walks.KERNEL, walks.OUT),
    Work("lvm", "out of maintenance", walks.OUT, walks.OVER),
    Work("full", "provision", "building", walks.OVER, (None, "fresh")),
    Work("plain", "provision", "building", walks.OVER, (None, "golden", "fresh")),
    Work("plain, UEFI", "provision", "building", walks.OVER, (None, "golden", "fresh")),
    Work("plain, UEFI", "its loader", LOADER, "booting", (None, "golden")),
    Work("lvm, UEFI", "provision", "building", walks.OVER, (None, "fresh")),
)

Records = Callable[[str], Recording]


def device(host: str) -> str | None:
    """The disk that a host's provision is given."""
    return None if host.startswith("lvm") else SPARE


@pytest.fixture(scope="module")
def records(
    lvm_image: bare.BaseImage,
    full_image: bare.BaseImage,
    shared: Path,
    accel: accelerator.Accelerator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Records:
    """The recording of each kind of host, made when it is asked for first."""
    print(f"CUTS_SEED={SEED}")
    top = tmp_path_factory.mktemp("recordings")

    def of(host: str) -> Recording:
        folder = top / host
        if not folder.exists():
            bases = {"lvm": lvm_image, "full": full_image}
            base = bases.get(host) or bare.build(UEFI.get(host, BIOS_PLAIN), shared)
            spare = 12 * GIB if device(host) else 0
            firmware = uefi.PLAIN if host in UEFI else None
            with recording.recorded(folder, base, spare, CPUS, accel, firmware) as (box, recorder):
                if firmware:
                    uefi.make_entry(box)
                if host == "lvm, UEFI":  # one that its installer left without a removable path
                    box.succeed("rm --recursive /boot/efi/EFI/BOOT")
                walks.provisioned(box, recorder, device(host), *LEAN)
                if host == "lvm":
                    walks.updated(box, recorder)
                    walks.kernel_installed(box, recorder)
        return recording.load(folder)

    return of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's; the disks in it are gigabytes, of which pytest would keep each."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def cut_and_boot(
    made: Recording,
    work: Work,
    kind: str,
    cuts: Sequence[Cut],
    folder: Path,
    accel: accelerator.Accelerator,
) -> None:
    """Try these cuts, write down what came of them, and fail with those that it did not survive.

    The machine of one of them is then provisioned, and is a good box.
    """
    assert cuts, "nothing is written that a boot reads first"
    one = random.Random(f"{SEED} {cuts}").choice(cuts).name(made)

    def goes_on(guest: Guest, name: str) -> None:
        if name == one:
            with reached(guest) as box:
                becomes_good(box, device(work.host))

    found = hostcuts.survive(made, cuts, folder, accel, work.verdicts, goes_on)
    row = cutreport.row(kind, f"{work.host}: {work.name}", len(cuts), found, SEED)
    cutreport.write(row)
    faults = {name: survival.faults for name, survival in found.items() if survival.faults}
    assert not faults, f"CUTS_SEED={SEED}"


def becomes_good(box: Box, spare: str | None) -> None:
    """A later provision goes through; the one after that has nothing to do.

    A partition table that is half there is not known for ours, so the user says that it may go.
    """
    done = box.provision(*LEAN, device=None if box.state.is_box else spare, force=True)
    assert done.state.verdict is not None
    assert done.state.verdict.name == "fresh"
    assert not box.provision(*LEAN).changed
    if spare and box.state.firmware == "uefi":
        uefi.starts_by_both(box)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: f"{work.host}: {work.name}")
def test_at_random_instants(
    records: Records, work: Work, folder: Path, accel: accelerator.Accelerator
) -> None:
    made = records(work.host)
    looks = made.within(work.first, work.last)
    cuts = hostdisks.chosen(looks, 9, random.Random(f"{SEED} {work}"))
    cut_and_boot(made, work, "host, random", cuts, folder, accel)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: f"{work.host}: {work.name}")
def test_where_a_boot_looks_first(
    records: Records, work: Work, folder: Path, accel: accelerator.Accelerator
) -> None:
    """Loaders and partition tables, NVRAM, LVM's metadata, /boot: at writes to each of them."""
    made = records(work.host)
    looks, chance = made.within(work.first, work.last), random.Random(f"{SEED} {work}")
    cuts = places.cuts(made, looks, 4, chance)
    cut_and_boot(made, work, "host, exact", cuts, folder, accel)


@pytest.mark.parametrize(
    "work",
    # a plain one's /boot GRUB does not read yet
    [work for work in WORKS if not work.host.startswith("plain")],
    ids=lambda work: f"{work.host}: {work.name}",
)
def test_at_every_write_to_boot(records: Records, work: Work, folder: Path) -> None:
    """GRUB's own code, in place of a boot, finds whole files: the old ones or the new."""
    made = records(work.host)
    looks, chance = made.within(work.first, work.last), random.Random(f"{SEED} {work}")
    found = hostcuts.grub_finds(made, looks, folder, chance)
    way = f"{work.host}: {work.name}"
    cutreport.write(cutreport.row("host, as GRUB reads it", way, len(found), found, SEED))
    faults = {name: survival.faults for name, survival in found.items() if survival.faults}
    assert not faults, f"CUTS_SEED={SEED}"
