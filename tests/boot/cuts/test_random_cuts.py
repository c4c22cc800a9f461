"""QEMU is killed at random instants of a reset, and of what the disk's cache held a part is lost.

Killing QEMU alone would lose nothing: all that the guest wrote is in the page cache of this
machine, flushed or not. So the disk that the next boot has is made from the log of the guest's
requests: what it flushed, and of the rest each block by chance (writelog.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.boot.bed import bed
from tests.boot.bed.writelog import Cache
from tests.boot.cuts import cutreport, cuts
from tests.boot.cuts.cuts import WAYS, Start, Survival

# It gives the same ways, delays and lost blocks; when QEMU is killed is up to the clock.
SEED = cuts.SEED
BEGINS = "dmsetup table"  # the first that a reset asks


def random_cuts(
    rig: bed.Bed,
    starts: dict[str, Start],
    count: int,
    kind: str,
    begin: Sequence[str] = ("new", "dirty", "changed"),
) -> None:
    """Cut, boot, look; each reset starts from what the boot before it was when its power went."""
    print(f"CUTS_SEED={SEED}")
    chance = random.Random(SEED)
    golden = starts["new"].disk.part(starts["new"].disk.golden)
    now = starts["dirty"]
    ways = [name for name, way in WAYS.items() if way.after == cuts.NORMAL and way.start in begin]
    found: dict[str, Survival] = {}
    span = 3.0
    for number in range(count):
        name = chance.choice(ways)
        way = WAYS[name]
        start = now if way.start == "dirty" else starts[way.start]
        later = chance.uniform(0, 1.2) * span
        cut = rig.boot(start.disk, *way.words, until=BEGINS, later=later)
        seeds = chance.randrange(10**6), chance.randrange(10**6)
        left = cuts.left_by(start, cut, rig.folder / "left.raw", Cache.SOME, seeds[0])
        what = f"{number}: {name}, {later:.2f} s after the reset began, {len(cut.writes)} requests"
        found[what], boot = cuts.survive(rig, left, left.disk, way, golden)
        if found[what].faults:
            break
        now = cuts.left_by(left, boot, rig.folder / f"now{number % 2}.raw", Cache.SOME, seeds[1])
        span = boot.reset_seconds
    faults = {name: survival.faults for name, survival in found.items() if survival.faults}
    cutreport.write(cutreport.row(kind, "any", len(found), found, SEED))
    assert not faults, f"CUTS_SEED={SEED}"


def test_four_cuts(rig: bed.Bed, starts: dict[str, Start]) -> None:
    random_cuts(rig, starts, 4, "random")


@pytest.mark.long
def test_a_hundred_cuts(rig: bed.Bed, starts: dict[str, Start]) -> None:
    random_cuts(rig, starts, 100, "random, long", ("new", "dirty", "changed", "promoting"))
