"""A boot that is tried and hangs ends some time, by the script that its initramfs starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/resnap/trial-deadline"

pytestmark = pytest.mark.commands


@pytest.fixture
def box(tmp_path: Path) -> FakeRoot:
    box = FakeRoot(tmp_path / "root")
    box.write("proc/cmdline", "ro resnap trial trial_deadline=60 panic=10\n")
    for name in ("proc/sysrq-trigger", "dev/kmsg"):
        box.write(name, "")
    (box.root / "run").mkdir()
    box.tool("sleep", f"echo $1 >{box.root}/slept")
    return box


def asked(box: FakeRoot) -> str:
    """What the kernel is asked for: b starts the machine anew."""
    assert box.run(SCRIPT).returncode == 0
    return (box.root / "proc/sysrq-trigger").read_text().strip()


def test_without_a_verdict_the_machine_starts_anew(box: FakeRoot) -> None:
    assert asked(box) == "b"
    assert (box.root / "slept").read_text() == "60\n"
    assert "no verdict" in (box.root / "dev/kmsg").read_text()


def test_a_boot_that_was_tried_goes_on(box: FakeRoot) -> None:
    box.tool("sleep", f"mkdir {box.root}/run/resnap; : >{box.root}/run/resnap/tried")
    assert asked(box) == ""


def test_who_is_ended_asks_for_nothing(box: FakeRoot) -> None:
    box.tool("sleep", "exit 143")  # the machine goes down
    assert asked(box) == ""


def test_a_boot_that_is_not_tried_has_no_deadline(box: FakeRoot) -> None:
    box.write("proc/cmdline", "ro resnap panic=10\n")
    assert asked(box) == ""
    assert not (box.root / "slept").exists()
