"""Which disks the power cuts of a boot leave."""

from __future__ import annotations

from tests.boot.bed.writelog import SECTOR, Cache, Write
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


def test_in_the_end_is_after_the_last_flush() -> None:
    for writes, expected in (
        ([ONE, FLUSH, TWO], ["0 of 3, cache lost", "2 of 3, cache lost", "3 of 3, cache kept"]),
        ([ONE, TWO], ["0 of 2, cache lost", "1 of 2, cache kept", "2 of 2, cache kept"]),
    ):
        found = cuts.cuts(writes, [(Cache.LOST, 0)], [(Cache.KEPT, 0)])
        assert [cut.name.removeprefix("after request ") for cut in found] == expected
    assert len(cuts.instants([ONE, FLUSH, TWO], [(Cache.LOST, 0)], [(Cache.KEPT, 0)])) == 5
    assert len(cuts.instants([ONE, TWO], [(Cache.LOST, 0)], [(Cache.KEPT, 0)])) == 6


def test_chance_leaves_what_order_does_not() -> None:
    found = [
        list(cut.writes)
        for cut in cuts.cuts([ONE, TWO], cuts.LOST_OR_KEPT + cuts.in_part(range(20)))
    ]
    assert [TWO] in found
    assert len(found) == 4
