"""What follows a reset that failed: another try, and after three in a row none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/resnap/quarantine"

pytestmark = pytest.mark.commands


@dataclass(frozen=True)
class After:
    """How the script ended, what it said, and what it had ``shutdown`` do."""

    code: int
    said: str
    shutdown: str
    quarantine: str


@dataclass
class Box(FakeRoot):
    """A fake box, one boot after another."""

    has_persistent: bool = True

    @property
    def count(self) -> Path:
        return self.root / "persistent/log/failed-resets"

    def boot(self, verdict: str, reason: str = "no room") -> After:
        run = self.root / "run/resnap"
        (self.root / "shutdown").unlink(missing_ok=True)
        self.came_out(verdict, "mode=resnap", "reason=early", f"reason={reason}")
        self.tool("mountpoint", f"exit {0 if self.has_persistent else 1}")
        self.tool("shutdown", f'echo "$*" >{self.root}/shutdown')
        done = self.run(SCRIPT)
        texts = [
            file.read_text().strip() if file.exists() else ""
            for file in (self.root / "shutdown", run / "quarantine")
        ]
        return After(done.returncode, done.stdout, *texts)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "persistent").mkdir()
    return Box(tmp_path)


def test_two_failures_are_tried_again_and_the_third_stays_up(box: Box) -> None:
    for number in (1, 2):
        after = box.boot("failed")
        assert (after.code, after.quarantine) == (0, "")
        assert after.shutdown == "-r +1 the reset failed: no room"
        assert f"failure {number} of 3" in after.said
    for _ in range(2):  # and so does what is booted by hand then
        after = box.boot("failed")
        assert (after.code, after.shutdown, after.quarantine) == (1, "", "no room")
        assert "when that is mended: /usr/lib/resnap/next-boot resnap" in after.said


@pytest.mark.parametrize("verdict", ["fresh", "kept"])
def test_failures_in_a_row_are_counted(box: Box, verdict: str) -> None:
    box.boot("failed")
    box.boot("failed")
    assert box.boot(verdict) == After(0, "", "", "")
    assert not box.count.exists()
    assert box.boot("failed").shutdown


def test_maintenance_is_no_try(box: Box) -> None:
    box.boot("failed")
    box.boot("failed")
    assert box.boot("golden") == After(0, "", "", "")
    assert box.boot("failed").quarantine


def test_without_persistent_nothing_is_tried_again(box: Box) -> None:
    box.has_persistent = False
    after = box.boot("failed")
    assert (after.code, after.shutdown, after.quarantine) == (1, "", "no room")


def test_a_persistent_that_takes_nothing_ends_in_quarantine_too(box: Box) -> None:
    box.tool("mkdir", "exit 1")
    assert box.boot("failed").quarantine == "no room"


@pytest.mark.parametrize("count", ["", "\n", "three\n", "-1\n"])
def test_a_count_that_is_none_is_begun_anew(box: Box, count: str) -> None:
    box.count.parent.mkdir()
    box.count.write_text(count)
    assert "failure 1 of 3" in box.boot("failed").said
