"""A snapshot that is not simply reset or kept.

One that was filled to its end is invalid: the next boot takes it anew, and tells it; so where there
is none to keep. One that is promoted becomes the golden root.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boot.bed import bed, beddisk
from tests.boot.cuts import cuts
from tests.boot.cuts.cuts import Start, Way

SMALL = ("lvsize=8M", "resnap")


@pytest.fixture(scope="module")
def overflowed(
    rig: bed.Bed, starts: dict[str, Start], tmp_path_factory: pytest.TempPathFactory
) -> Start:
    """A box that is off, whose small snapshot could not take what was written to it."""
    boot = rig.boot(starts["dirty"].disk, *SMALL, "bed.fill")
    assert (boot.verdict, boot.said("overflowed")) == ("fresh", [""]), boot.console
    assert boot.said("wrote")  # /persistent is none of the snapshot's
    folder = tmp_path_factory.mktemp("overflowed")
    return cuts.left_by(starts["dirty"], boot, folder / "overflowed.raw")


@pytest.mark.parametrize("after", [SMALL, cuts.KEEP])
def test_it_is_taken_anew(
    rig: bed.Bed, overflowed: Start, after: tuple[str, ...], tmp_path: Path
) -> None:
    golden = overflowed.disk.part(overflowed.disk.golden)
    survival, boot = cuts.survive(
        rig, overflowed, overflowed.disk, Way("dirty", after=after), golden
    )
    assert survival.faults == (), boot.console
    assert boot.verdict == "fresh"
    assert boot.notes["overflowed"] == "yes"
    # and the boot after that one has nothing to tell
    left = cuts.left_by(overflowed, boot, tmp_path / "left.raw")
    again = rig.boot(left.disk, *after)
    assert "overflowed" not in again.notes
    assert beddisk.version(left.disk) == left.version


def test_where_there_is_none_to_keep_one_is_taken(rig: bed.Bed, starts: dict[str, Start]) -> None:
    boot = rig.boot(starts["new"].disk, *cuts.KEEP)
    assert (boot.verdict, boot.said("root")) == ("fresh", ["golden"]), boot.console
    assert boot.notes["reason"] == "there was no good snapshot to keep"


def test_what_is_promoted_is_the_golden_root(rig: bed.Bed, starts: dict[str, Start]) -> None:
    promoted = starts["promoted"]  # by a boot
    boot = rig.boot(promoted.disk, *cuts.TRIAL)
    assert (boot.verdict, boot.said("root")) == ("fresh", ["dirty"]), boot.console
    assert beddisk.version(promoted.disk) == promoted.version
