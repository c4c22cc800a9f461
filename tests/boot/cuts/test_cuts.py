"""The power goes at every instant of a reset, and the next boot comes up with no hand laid on.

A cut leaves nothing but a disk, so each way through the reset is gone once, and its log of requests
tells every disk that a cut in it can leave (writelog.py): after each request, with the disk's cache
lost or kept. Each of them is booted; of the ways with many requests the usual run boots some, by
chance, the long one all. To show that this is what a machine leaves, the tests marked long crash it
by sysrq before every command that the reset calls, and boot that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.desk.places import ROOT
from tests.boot.bed import bed, beddisk
from tests.boot.bed.writelog import Cache
from tests.boot.cuts import cutreport, cuts
from tests.boot.cuts.cuts import WAYS, Chances, Cut, Start, Survival

RESNAP = "static/onbox/usr/lib/resnap/resnap"
# These have many requests, of which the usual run cuts some. Where the snapshot is kept the reset
# writes nothing: what is cut is the filesystem's recovery.
IN_PART = ("made anew", "merged back", "emptied, then kept")
LONG = (*IN_PART, "tried, then merged back", "promoted", "promoted, then merged back", "kept")
# How many disks of a way in part are booted: enough for its beginning, its midst and its end.
SOME = 9


def report(
    kind: str, way: str, tried: int, found: dict[str, Survival], seed: int | None = None
) -> None:
    """Write it down, and fail with the cuts that the box did not survive."""
    cutreport.write(cutreport.row(kind, way, tried, found, seed))
    assert found
    assert not {name: survival.faults for name, survival in found.items() if survival.faults}


def all_cuts(found: list[Cut]) -> list[Cut]:
    return found


def some_cuts(found: list[Cut]) -> list[Cut]:
    return cuts.some(found, SOME, random.Random(cuts.SEED))


def at_requests(
    rig: bed.Bed,
    starts: dict[str, Start],
    name: str,
    chances: Chances = cuts.LOST_OR_KEPT,
    *,
    chosen: Callable[[list[Cut]], list[Cut]] = all_cuts,
    until_fault: bool = False,
) -> tuple[int, dict[str, Survival]]:
    """How many ``cuts.instants`` a way through the reset has, and what came of each chosen disk."""
    way = WAYS[name]
    start = starts[way.start]
    whole = rig.boot(start.disk, *way.words, until=cuts.RESET_IS_OVER)
    assert cuts.RESET_IS_OVER in whole.console
    golden = starts[way.golden].disk.part(start.disk.golden)
    found = {}
    for cut in chosen(list(cuts.cuts(whole.writes, chances))):
        left = start.disk.after(cut.writes, rig.folder / "left.raw")
        found[cut.name], _ = cuts.survive(rig, start, left, way, golden)
        if until_fault and found[cut.name].faults:
            break
    return len(cuts.instants(whole.writes, chances)), found


@pytest.mark.parametrize("name", [name for name in WAYS if name not in LONG])
def test_after_every_request(rig: bed.Bed, starts: dict[str, Start], name: str) -> None:
    tried, found = at_requests(rig, starts, name)
    report("exact", name, tried, found)


@pytest.mark.parametrize("name", IN_PART)
def test_after_some_requests(rig: bed.Bed, starts: dict[str, Start], name: str) -> None:
    print(f"CUTS_SEED={cuts.SEED}")
    _, found = at_requests(rig, starts, name, chosen=some_cuts)
    report("exact, in part", name, len(found), found, cuts.SEED)


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_after_every_request_of_the_long_ways(
    rig: bed.Bed, starts: dict[str, Start], name: str
) -> None:
    tried, found = at_requests(rig, starts, name)
    report("exact", name, tried, found)


@pytest.mark.long
@pytest.mark.parametrize("name", WAYS)
def test_after_every_request_with_a_part_of_the_cache(
    rig: bed.Bed, starts: dict[str, Start], name: str
) -> None:
    tried, found = at_requests(rig, starts, name, cuts.in_part(range(4)))
    report("exact, cache in part", name, tried, found)


@pytest.mark.long
@pytest.mark.parametrize("name", WAYS)
def test_before_every_call(rig: bed.Bed, starts: dict[str, Start], name: str) -> None:
    way = WAYS[name]
    start = starts[way.start]
    golden = starts[way.golden].disk.part(start.disk.golden)
    found: dict[str, Survival] = {}
    while True:
        number = len(found) + 1
        crash = rig.boot(
            start.disk, *way.words, f"bed.cut={number}", until=cuts.RESET_IS_OVER, whole=True
        )
        if cuts.RESET_IS_OVER in crash.console:
            break
        assert crash.calls == number, crash.console
        left = cuts.left_by(start, crash, rig.folder / "left.raw", Cache.LOST).disk
        call = f"before {crash.said('call')[-1]}"
        found[call], _ = cuts.survive(rig, start, left, way, golden)
    report("exact, by sysrq", name, len(found), found)


def swapped(lines: list[str]) -> list[str]:
    """The script discards what is in the snapshot before it zeroes the header."""
    [header] = [number for number, line in enumerate(lines) if "bs=4k count=1" in line]
    [discard] = [number for number, line in enumerate(lines) if "resnap/blkdiscard" in line]
    lines[header], lines[discard] = lines[discard], lines[header]
    return lines


def with_old_table(lines: list[str]) -> list[str]:
    """The script leaves the first table of exceptions to the kernel."""
    return [line for line in lines if "bs=4k seek=1" not in line]


@pytest.mark.long
@pytest.mark.parametrize("change", [swapped, with_old_table])
def test_a_script_that_is_wrong_is_caught(
    rig: bed.Bed, starts: dict[str, Start], change: Callable[[list[str]], list[str]]
) -> None:
    script = (ROOT / RESNAP).read_text().splitlines(keepends=True)
    wrong = rig.with_file("usr/lib/resnap/resnap", "".join(change(script)))
    _, found = at_requests(wrong, starts, "emptied, then kept", until_fault=True)
    assert any(survival.faults for survival in found.values())


def test_metadata_that_is_half_written_is_mended(
    rig: bed.Bed, starts: dict[str, Start], tmp_path: Path
) -> None:
    """LVM flushes nothing: a disk may have the header of its metadata and not the text.

    The group was removed once, and made again: what is put back is nothing of its former life.
    """
    way = WAYS["first boot"]
    start = Start(beddisk.made_again(starts[way.start].disk, tmp_path), 0)
    whole = rig.boot(start.disk, *way.words, until=cuts.RESET_IS_OVER)
    for cut in cuts.cuts(whole.writes, cuts.in_part(range(100))):
        torn = start.disk.after(cut.writes, tmp_path / "torn.raw")
        if not beddisk.has_group(torn):
            break
    survival, boot = cuts.survive(rig, start, torn, way, start.disk.part(start.disk.golden))
    assert not survival.faults
    assert "the metadata of vagrant-pipeline is mended" in boot.console
