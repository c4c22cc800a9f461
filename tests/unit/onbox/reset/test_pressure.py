"""What is done as a snapshot fills up, by the script itself with the kernel's part faked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/resnap/pressure"
DEFAULTS = """VOLGROUP=vagrant-pipeline
LVSNAP=root_snap
WARN_PERCENT=80
RESET_PERCENT=95
DRAIN_SECONDS=600
"""

pytestmark = pytest.mark.commands


@dataclass(frozen=True)
class Watched:
    """How the script ended, and what it had said and done by then."""

    code: int
    said: str
    rebooted: bool
    sysrq: str
    overfull: list[str]


class Box(FakeRoot):
    """A fake box in a snapshot."""

    def watch(self, *fills: str) -> Watched:
        """Have it look once at each of these, what dmsetup says behind the word snapshot."""
        self.write("fills", "".join(f"{fill}\n" for fill in fills))
        self.write("proc/sysrq-trigger", "")
        # each look is a sleep and a dmsetup; after the last the box is off
        self.tool("sleep", f"[ -s {self.root}/fills ] || kill $PPID")
        self.tool(
            "dmsetup",
            f'[ "$2" = vagrant--pipeline-root_snap ] || exit 1\ncd {self.root}\n'
            "fill=$(head -n 1 fills); sed -i 1d fills\n"
            '[ "$fill" != none ] || exit 1\necho "0 8388608 snapshot $fill"',
        )
        done = self.run(SCRIPT)
        overfull = self.root / "persistent/log/overfull"
        lines = overfull.read_text().splitlines() if overfull.exists() else []
        return Watched(
            done.returncode,
            done.stdout,
            (self.root / "rebooted").exists(),
            (self.root / "proc/sysrq-trigger").read_text().strip(),
            [line.split()[1] for line in lines],
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.write("proc/cmdline", "root=/dev/mapper/x lvsize=4G resnap\n")
    box.write("etc/default/resnap", DEFAULTS)
    box.came_out("fresh", "mode=resnap")
    box.write("dev/kmsg", "")
    (tmp_path / "proc/uptime").symlink_to("/proc/uptime")
    # reboot is the only thing that it asks systemd for, but whether a worker works
    only = '[ "$*" = "reboot --check-inhibitors=no" ]'
    box.tool("systemctl", f"{only} || exit 3\n: >{tmp_path}/rebooted")
    return box


def percents(*numbers: int) -> Sequence[str]:
    return [f"{number}0/1000 16" for number in numbers]


def test_a_fill_that_is_told_once_each_time_it_is_reached(box: Box) -> None:
    watched = box.watch(*percents(10, 79, 80, 94, 85, 20, 81, 82))
    lines = [f"the snapshot is {number} % full: at 95 % the box resets" for number in (80, 81)]
    assert watched.said.splitlines() == lines
    assert (watched.rebooted, watched.sysrq, watched.overfull) == (False, "", [])


def test_a_fill_at_which_no_job_is_taken_and_the_box_resets(box: Box) -> None:
    watched = box.watch(*percents(10, 95))
    assert "no job is taken any more" in watched.said
    assert (watched.rebooted, watched.overfull, watched.sysrq) == (True, ["95"], "")
    assert (box.root / "run/resnap/drain").exists()


def test_a_worker_has_its_time(box: Box) -> None:
    fills = box.root / "fills"
    works = f'[ "$(wc -l <{fills})" -gt 1 ]; exit'
    box.tool("systemctl", f'[ "$1" = reboot ] || {{ {works}; }}\ncp {fills} {box.root}/rebooted')
    assert box.watch(*percents(95, 96, 97, 98)).rebooted
    assert (box.root / "rebooted").read_text() == "980/1000 16\n"  # the other looks came before


def test_a_worker_that_does_not_end_has_an_end(box: Box) -> None:
    box.tool("systemctl", f'[ "$1" = reboot ] || exit 0\n: >{box.root}/rebooted')
    box.write("etc/default/resnap", f"{DEFAULTS}DRAIN_SECONDS=0\n")
    assert box.watch(*percents(96)).rebooted


@pytest.mark.parametrize("end", [["Invalid"], ["Overflow"], ["none"] * 3])
def test_an_overflow_starts_the_box_anew_by_the_kernel_alone(box: Box, end: list[str]) -> None:
    watched = box.watch(*percents(10), *end)
    assert (watched.code, watched.sysrq, watched.rebooted) == (1, "b", False)
    assert "has overflowed" in (box.root / "dev/kmsg").read_text()


def test_an_overflow_while_it_drains(box: Box) -> None:
    box.tool("systemctl", "exit 0")
    assert box.watch(*percents(96), "Invalid").sysrq == "b"


def test_a_dmsetup_that_failed_is_no_overflow(box: Box) -> None:
    assert box.watch("none", "none", *percents(10), "none", "none").sysrq == ""


@pytest.mark.parametrize("words", ["lvsize=100%ORIGIN", "lvsize=150%ORIGIN resnap", "quiet"])
def test_a_snapshot_that_cannot_fill_is_not_watched(box: Box, words: str) -> None:
    box.write("proc/cmdline", f"{words}\n")
    watched = box.watch(*percents(99))
    assert (watched.code, watched.said, watched.rebooted) == (0, "", False)


def test_a_trials_snapshot_has_less_room_than_its_size_says(box: Box) -> None:
    box.write("proc/cmdline", "lvsize=100%ORIGIN resnap trial panic=10\n")
    assert box.watch(*percents(10, 95)).rebooted


def test_a_share_of_the_origin_can_fill(box: Box) -> None:
    box.write("proc/cmdline", "lvsize=50%ORIGIN resnap\n")
    assert box.watch(*percents(96)).rebooted


def test_the_overflow_before_this_boot_is_told_once(box: Box) -> None:
    box.came_out("fresh", "mode=resnap", "overflowed=yes")
    assert "had overflowed" in box.watch(*percents(1)).said
    again = box.watch(*percents(1))
    assert (again.said, again.overfull) == ("", ["100"])


def test_no_more_than_twenty_are_remembered(box: Box) -> None:
    box.write("persistent/log/overfull", "".join(f"{when} 95\n" for when in range(40)))
    box.watch(*percents(95))
    lines = (box.root / "persistent/log/overfull").read_text().splitlines()
    assert (len(lines), lines[0]) == (20, "21 95")


def test_a_persistent_that_takes_nothing_is_in_no_ones_way(box: Box) -> None:
    box.write("persistent/log", "in the way\n")
    assert box.watch(*percents(95)).rebooted
