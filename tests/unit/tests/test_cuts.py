"""Which disks the power cuts of a boot leave."""

from __future__ import annotations

import random

from tests.boot.bed.writelog import SECTOR, Write
from tests.boot.cuts import cuts

FLUSH = Write(0, 0, None, is_flush=True)
ONE = Write(0, SECTOR, b"1" * SECTOR)
TWO = Write(SECTOR, SECTOR, b"2" * SECTOR)


def test_each_disk_that_a_cut_can_leave_is_named_once() -> None:
    found = list(cuts.cuts([ONE, TWO, FLUSH, TWO]))
    assert [list(cut.writes) for cut in found] == [[], [ONE], [ONE, TWO]]
    assert [cut.name for cut in found][:2] == [
        "after request 0 of 4, cache lost",
        "after request 1 of 4, cache kept",
    ]


def test_some_are_of_the_whole_way() -> None:
    found = list(cuts.cuts([ONE, TWO] * 20))
    some = cuts.some(found, 3, random.Random(1))
    places = [found.index(cut) for cut in some]
    assert [3 * place // len(found) for place in places] == [0, 1, 2]
    assert cuts.some(found, 3, random.Random(1)) == some
    assert cuts.some(found[:2], 3, random.Random(1)) == found[:2]


def test_chance_leaves_what_order_does_not() -> None:
    found = [
        list(cut.writes)
        for cut in cuts.cuts([ONE, TWO], cuts.LOST_OR_KEPT + cuts.in_part(range(20)))
    ]
    assert [TWO] in found
    assert len(found) == 4
