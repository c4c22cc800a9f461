"""The power goes over the resets of a box in a file: it comes back, and its host has lost nothing.

As in test_cuts.py and test_random_cuts.py. The filesystem of the host is checked after each cut,
and after the boot that follows: e2fsck replays its journal, and finds no fault. The host's own file
is as new as what was written to /persistent.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from deploys.operations.root import FILE
from tasks.guests.qemu import accelerator
from tests.boot.bed import bed, beddisk, bedinitrd
from tests.boot.cuts import cuts
from tests.boot.cuts.cuts import WAYS, Start
from tests.boot.cuts.test_cuts import at_requests, report
from tests.boot.cuts.test_random_cuts import random_cuts

pytestmark = pytest.mark.slow

USUAL = ("emptied in place", "made anew", "merged back")
SOME = 4  # disks of each in the usual run
CHANCES = (*cuts.LOST_OR_KEPT, *cuts.in_part(range(2)))


@pytest.fixture(scope="session")
def rig(built: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> bed.Bed:
    """The bed of a host with one disk: the initrd of the built box, made for a box in a file."""
    kernel, _ = bedinitrd.take_kernel(built, shared)
    common = shared / "bed-in-file"
    with FileLock(shared / "bed-in-file.lock"):
        if not common.exists():
            made = shared / "bed-in-file.new"
            made.mkdir()
            of_box = bedinitrd.make_of_file(built, made / "of-box")
            bedinitrd.make_initrd(of_box, made / "initrd-in-file", bedinitrd.WAITING)
            made.rename(common)
    accel = accelerator.choose(kernel, shared)
    folder, initrd = tmp_path_factory.mktemp("bed"), common / "initrd-in-file"
    return bed.Bed(folder, kernel, initrd, accel, memories=common, volfile=FILE)


@pytest.fixture(scope="session")
def starts(rig: bed.Bed, shared: Path) -> cuts.Starts:
    folder = shared / "starts-in-file"
    folder.mkdir(exist_ok=True)
    return cuts.Starts(rig, folder, beddisk.make_disk_in_file)


def test_a_host_that_is_not_whole_is_seen(tmp_path: Path) -> None:
    disk = beddisk.make_disk_in_file(tmp_path / "new.raw")
    assert beddisk.host_faults(disk, 0) == []
    old = beddisk.host_faults(disk, 2)
    assert old == ["the host's own file says '0\\n', not 2"]
    broken = disk.after([], tmp_path / "broken.raw")
    assert broken.host
    with broken.path.open("r+b") as file:
        file.seek(broken.host.offset + 20 * 4096)  # its tables
        file.write(b"x" * 10 * 4096)
    [fault] = beddisk.host_faults(broken)
    assert fault.startswith("the host's filesystem is not whole")


@pytest.mark.parametrize("name", USUAL)
def test_after_some_requests(rig: bed.Bed, starts: dict[str, Start], name: str) -> None:
    print(f"CUTS_SEED={cuts.SEED}")
    some = partial(cuts.some, count=SOME, chance=random.Random(cuts.SEED))
    _, found = at_requests(rig, starts, name, CHANCES, chosen=some)
    report("in a file, in part", name, len(found), found, cuts.SEED)


@pytest.mark.long
@pytest.mark.parametrize("name", WAYS)
def test_after_every_request(rig: bed.Bed, starts: dict[str, Start], name: str) -> None:
    tried, found = at_requests(rig, starts, name, CHANCES)
    report("in a file", name, tried, found)


@pytest.mark.long
def test_two_hundred_cuts(rig: bed.Bed, starts: dict[str, Start]) -> None:
    random_cuts(rig, starts, 200, "in a file, random", ("new", "dirty", "changed", "promoting"))
