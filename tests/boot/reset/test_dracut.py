"""A host whose initrds dracut makes: the same reset, by dracut's own hooks.

Most on the test bed, with an initrd that dracut made; one host is provisioned. The reset itself is
the script that initramfs-tools has: what that does after cuts, and when it keeps, is tried there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.disks import partitions
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tests.boot.bed import bed, beddisk, beddracut
from tests.boot.bed.beddisk import Disk
from tests.boot.conftest import GIB, Start
from tests.boot.lab.box import becomes_a_box
from tests.boot.lab.recipes import Recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rig(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> bed.Bed:
    folder = tmp_path_factory.mktemp("bed")
    kernel, initrd = beddracut.make(folder)
    return bed.Bed(folder, kernel, initrd, accelerator.choose(kernel, shared), memories=folder)


def _lvm(disk: Disk, *words: str) -> None:
    """Run one of LVM's commands on the group of a disk that is off."""
    second = disk.path.with_name("second.raw")
    second.write_bytes(bytes(partitions.MIB))
    with beddisk.lvm(disk, second) as tool:
        tool(*words)


@pytest.fixture(scope="module")
def dirty(rig: bed.Bed) -> Disk:
    """What a first boot leaves, whose power was cut: a snapshot, and it is dirty."""
    disk = beddisk.make_disk(rig.folder / "new.raw")
    first = rig.boot(disk, "resnap")
    assert first.verdict == "fresh", first.console
    assert first.said("root") == ["golden"]
    return disk.after(first.writes, rig.folder / "dirty.raw")


def test_late_disk_is_awaited_and_the_root_on_it_reset(rig: bed.Bed, dirty: Disk) -> None:
    boot = rig.boot(dirty, "resnap")
    assert (boot.verdict, boot.said("root")) == ("fresh", ["golden"])
    assert boot.notes["initrd"]
    assert any("wipe_table" in call for call in boot.said("call"))


@pytest.mark.long
def test_power_cut_in_the_midst_of_a_reset_is_survived(
    rig: bed.Bed, dirty: Disk, tmp_path: Path
) -> None:
    cut = rig.boot(dirty, "resnap", until="dmsetup load")  # the snapshot is wiped by then
    assert cut.verdict is None
    boot = rig.boot(dirty.after(cut.writes, tmp_path / "cut.raw"), "resnap")
    assert (boot.verdict, boot.said("root")) == ("fresh", ["golden"])


@pytest.mark.long
def test_snapshot_is_kept(rig: bed.Bed, dirty: Disk) -> None:
    boot = rig.boot(dirty, whole=True)
    assert (boot.verdict, boot.said("root")) == ("kept", ["dirty"])


def test_golden_root_takes_the_place_of_a_snapshot_that_cannot_be_taken(
    rig: bed.Bed, tmp_path: Path
) -> None:
    full = beddisk.make_disk(tmp_path / "full.raw")
    _lvm(full, "lvcreate", "-an", "-Zn", "-Wn", "-n", "other", "-l", "100%FREE", beddisk.GROUP)
    boot = rig.boot(full, "resnap")
    assert (boot.verdict, boot.said("root")) == ("failed", ["golden"])
    assert "insufficient" in boot.notes["reason"].lower()
    assert boot.notes["mounted"] == "vagrant--pipeline-root"


def test_a_boot_on_trial_that_hangs_has_an_end(rig: bed.Bed, dirty: Disk) -> None:
    words = ("resnap", "trial", "trial_deadline=5")
    boot = rig.hanging().boot(dirty, *words, until="sysrq: Resetting", whole=True)
    assert "no verdict on the changed golden root after 5 s" in boot.console
    assert "sysrq: Resetting" in boot.console


@pytest.mark.long
def test_without_a_root_a_closed_console_starts_anew(rig: bed.Bed, tmp_path: Path) -> None:
    rootless = beddisk.make_disk(tmp_path / "rootless.raw")
    _lvm(rootless, "lvremove", f"{beddisk.GROUP}/root")
    words = ("resnap", "panic=1", "rd.retry=3")
    boot = rig.boot(rootless, *words, until="reboot: Restarting system", deadline=240)
    assert "no vagrant-pipeline/root yet" in boot.console
    assert "reboot: Restarting system" in boot.console
    assert "emergency mode" not in boot.console


@pytest.mark.long
def test_host_becomes_a_box(start: Start, shared: Path) -> None:
    recipe = Recipe("lvm", disk_size=10 * GIB, extra=("dracut",))
    with start(bare.build(recipe, shared)) as box:
        assert box.state.initrds == "dracut"
        becomes_a_box(box)
