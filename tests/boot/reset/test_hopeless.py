"""A reset that cannot succeed: where its root can be mounted the box comes up and is red.

Where it cannot, the box starts anew at a bounded pace if its console is closed (panic=); an open
one is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.disks import partitions
from tests.boot.bed import bed, beddisk
from tests.boot.bed.bed import Boot
from tests.boot.bed.beddisk import Lvm
from tests.boot.cuts.cuts import NORMAL, TRIAL, Start

Fault = Callable[[Lvm], None]


def full(tool: Lvm) -> None:
    """Something else took all that was free in the group."""
    tool("lvcreate", "-an", "-Zn", "-Wn", "-n", "other", "-l", "100%FREE", beddisk.GROUP)


def without_root(tool: Lvm) -> None:
    """Somebody removed the golden root."""
    tool("lvremove", f"{beddisk.GROUP}/root")


def without_second(tool: Lvm) -> None:
    """A disk that the group was extended with is gone; it held nothing."""
    tool("vgextend", beddisk.GROUP, beddisk.SECOND)


def without_part_of_root(tool: Lvm) -> None:
    """A disk is gone that the golden root was extended to; its filesystem was not."""
    tool("vgextend", beddisk.GROUP, beddisk.SECOND)
    tool("lvextend", "-l", "+1", f"{beddisk.GROUP}/root", beddisk.SECOND)


@pytest.fixture
def hopeless(rig: bed.Bed, starts: dict[str, Start], tmp_path: Path) -> Callable[..., Boot]:
    """Boot a disk to which something happened, with a deadline of a few seconds."""

    def boot(start: str, fault: Fault | None, *words: str, until: str = "bed: wrote") -> Boot:
        disk = starts[start].disk.after([], tmp_path / "faulty.raw")
        second = tmp_path / "second.raw"
        with second.open("wb") as file:
            file.truncate(64 * partitions.MIB)
        if fault:
            with beddisk.lvm(disk, second) as tool:
                fault(tool)
        hasty = rig.with_file("etc/default/resnap", "DEADLINE=6\nCHUNKSIZE=64K\n")
        return hasty.boot(disk, *NORMAL, *words, until=until)

    return boot


@pytest.mark.parametrize(
    ("start", "fault", "words", "reason"),
    [
        ("new", full, (), "Insufficient"),
        ("new", None, ("bed.fails=lvm",), ""),
        ("new", without_second, (), ""),
        ("new", without_part_of_root, (), "a disk of vagrant-pipeline is missing"),
    ],
)
def test_the_golden_root_is_booted_and_called_failed(
    hopeless: Callable[..., Boot],
    start: str,
    fault: Fault | None,
    words: tuple[str, ...],
    reason: str,
) -> None:
    boot = hopeless(start, fault, *words)
    assert boot.verdict == "failed", boot.console
    assert boot.said("root") == ["golden"]
    assert f"mounted={bed.GOLDEN.rpartition('/')[2]}" in boot.said("note")
    [why] = [note for note in boot.said("note") if note.startswith("reason=")]
    assert reason in why
    assert "booting the golden root, to be reached and mended" in boot.console
    assert boot.said("wrote")  # /persistent is there


@pytest.mark.parametrize(("fault", "words"), [(without_second, ()), (None, ("bed.fails=lvm",))])
def test_a_snapshot_that_is_there_needs_no_lvm(
    hopeless: Callable[..., Boot], fault: Fault | None, words: tuple[str, ...]
) -> None:
    boot = hopeless("dirty", fault, *words)
    assert (boot.verdict, boot.said("root")) == ("fresh", ["golden"]), boot.console


def test_beside_a_clone_of_its_disk_nothing_is_reset(
    rig: bed.Bed, starts: dict[str, Start]
) -> None:
    """LVM takes one of the two disks, and may take the other one at the next boot."""
    disk = starts["dirty"].disk
    boot = rig.boot(disk, *NORMAL, whole=True, beside=disk)
    assert boot.verdict == "failed", boot.console
    [why] = [note for note in boot.said("note") if note.startswith("reason=")]
    assert why.endswith(
        "two disks have the same physical volume of vagrant-pipeline: detach the copy"
    )
    assert boot.said("root") == ["dirty"]
    assert not [call for call in boot.said("call") if ": lvm " in call]


def test_a_boot_on_trial_that_hangs_has_an_end(rig: bed.Bed, starts: dict[str, Start]) -> None:
    words = (*TRIAL, "trial_deadline=5")
    boot = rig.hanging().boot(starts["new"].disk, *words, until="sysrq: Resetting", whole=True)
    assert "no verdict on the changed golden root after 5 s" in boot.console
    assert "sysrq: Resetting" in boot.console


@pytest.mark.long
def test_without_a_root_a_closed_console_starts_anew(hopeless: Callable[..., Boot]) -> None:
    boot = hopeless("dirty", without_root, "panic=1", until="reboot: Restarting system")
    assert "no vagrant-pipeline/root yet" in boot.console
    assert "Rebooting automatically" in boot.console
    assert "(initramfs)" not in boot.console


@pytest.mark.long
def test_without_a_root_an_open_console_asks(hopeless: Callable[..., Boot]) -> None:
    boot = hopeless("dirty", without_root, until="(initramfs)")
    assert "(initramfs)" in boot.console
