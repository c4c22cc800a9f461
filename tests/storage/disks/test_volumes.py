"""The facts and operations of LVM and disks, on a real disk image with the real tools."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.errors import DeployError
from deploys.facts.disks import (
    AttachedFile,
    BlockDevices,
    Filesystems,
    KernelSize,
    LoopFile,
    Mount,
    RealPath,
)
from deploys.facts.disks import Signatures as DiskSignatures
from deploys.facts.firmware import Firmware
from deploys.facts.lvm import Lvm, LvmReport
from deploys.operations import disks, lvm
from deploys.operations.disks import has_layout
from deploys.plan.of_firmware import EfiPlan
from deploys.plan.of_spare import spare_layout
from deploys.plan.result import Kind, Volume, VolumePlan
from deploys.plan.survey import read_survey
from deploys.reset.boot import boot_copy
from deploys.reset.volumes import volumes
from deploys.session import Session, Target
from deploys.settings import MIB, Settings, Volumes
from tests.storage.commands import run

# linux/loop.h
_LOOP_CTL_ADD, _LOOP_CTL_REMOVE = 0x4C80, 0x4C81
HERE = Target("local")
PLAN = VolumePlan(Kind.SPARE, "test-box", "root", "root_snap", "100%ORIGIN")
LAYOUT = spare_layout(Volumes(boot_size=256 * MIB))


def make_volumes(disk: str, wipe: bool = False) -> Callable[[], None]:
    def deploy() -> None:
        disks.partition(device=disk, layout=LAYOUT, wipe=wipe)
        disks.filesystem(device=f"{disk}p2", fstype="ext4", label="boot")
        lvm.physical_volume(device=f"{disk}p3")
        lvm.volume_group(group="test-box", devices=[f"{disk}p3"])
        lvm.logical_volume(group="test-box", volume="root", size=100 * MIB, activate=False)
        lvm.logical_volume(group="test-box", volume="rest", size="100%FREE", activate=False)

    return deploy


def apply(deploy: Callable[[], None]) -> tuple[str, ...]:
    """The operations that changed something."""
    with Session(HERE) as session:
        session.prepare([deploy])
        return session.run()


def test_an_empty_disk_becomes_a_volume_group_and_a_second_run_changes_nothing(
    loop_disk: str,
) -> None:
    assert len(apply(make_volumes(loop_disk))) == 6
    with Session(HERE) as session:
        disk = session.fact(BlockDevices).find(loop_disk)
        report = session.fact(Lvm)
    assert disk is not None
    assert has_layout(disk, LAYOUT)
    assert [part.fstype for part in disk.children] == ["", "ext4", "LVM2_member"]
    group = report.group("test-box")
    assert group is not None
    assert [pv.device for pv in group.pvs] == [f"{loop_disk}p3"]
    assert {lv.name for lv in group.lvs} == {"root", "rest"}
    root = group.lv("root")
    assert root is not None
    assert root.size == 100 * MIB
    assert group.free == 0
    assert apply(make_volumes(loop_disk)) == ()


def test_a_disk_that_carries_something_is_left_alone_in_one_line(loop_disk: str) -> None:
    run("mkfs.ext4", "-q", loop_disk)
    with pytest.raises(DeployError, match="is not empty"):
        apply(make_volumes(loop_disk))
    with Session(HERE) as session:
        assert session.fact(DiskSignatures, device=loop_disk) == ("ext4",)


def test_one_that_carries_two_things_hides_no_other(loop_disk: str) -> None:
    """blkid names neither of two that exclude each other, and read no device behind that one."""
    apply(make_volumes(loop_disk))
    squashfs = bytearray(96)
    squashfs[:4], squashfs[28], squashfs[41] = b"hsqs", 4, 16  # magic, version, bytes used
    with Path(f"{loop_disk}p2").open("r+b") as device:
        device.write(squashfs)
    with Session(HERE) as session:
        disk = session.fact(BlockDevices).find(loop_disk)
        both = session.fact(DiskSignatures, device=f"{loop_disk}p2")
    assert disk is not None
    assert [part.fstype for part in disk.children] == ["", "", "LVM2_member"]
    assert both == ("ext4", "squashfs")


def test_a_disk_that_carries_something_is_wiped_when_told(loop_disk: str) -> None:
    run("mkfs.ext4", "-q", loop_disk)
    with Session(HERE) as session:
        assert session.fact(DiskSignatures, device=loop_disk) == ("ext4",)
    apply(make_volumes(loop_disk, wipe=True))
    with Session(HERE) as session:
        assert session.fact(DiskSignatures, device=loop_disk) == ("gpt",)


def test_an_extension_adds_its_partition_once(loop_disk: str) -> None:
    apply(make_volumes(loop_disk))
    run("vgremove", "--force", "test-box")
    run("vgcreate", "other", f"{loop_disk}p3")
    run("wipefs", "--all", f"{loop_disk}p2")

    def extend() -> None:
        lvm.physical_volume(device=f"{loop_disk}p2")
        lvm.extend_volume_group(group="other", devices=[f"{loop_disk}p2"])

    assert len(apply(extend)) == 2
    assert apply(extend) == ()


def test_an_unused_physical_volume_and_no_volume_at_all_are_read(loop_disk: str) -> None:
    with Session(HERE) as session:
        assert session.fact(Lvm) == LvmReport()
        run("pvcreate", loop_disk)
        [orphan] = session.fact(Lvm).orphans
    assert (orphan.device, orphan.vg, orphan.size) == (loop_disk, "", 2**30)


def test_this_machine_can_be_surveyed(
    loop_disk: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    others = tmp_path_factory.getbasetemp().parent  # tests beside this one mount and unmount there

    def lasting(mounts: Sequence[Mount]) -> list[str]:
        return [each.target for each in mounts if not Path(each.target).is_relative_to(others)]

    with Session(HERE) as session:
        survey = read_survey(session.fact, loop_disk)
        assert session.fact(Firmware) == survey.firmware
        assert session.fact(KernelSize) == survey.kernel
        assert session.fact(RealPath, path="/nowhere/at/all") == ""
        mounts = session.fact(Filesystems)
    assert "/" in lasting(mounts)
    assert lasting(mounts) == lasting(survey.mounts)
    assert survey.device is not None
    assert survey.device.path == loop_disk
    assert survey.disk is not None
    assert survey.disk.size == 2**30
    root = survey.mount("/")
    assert root is not None
    assert 0 < root.used < root.size


def test_the_deploy_of_a_plan_is_prepared_in_order(loop_disk: str) -> None:
    plan = replace(
        PLAN,
        boot_partition=f"{loop_disk}p2",
        volumes=(Volume("root", 100 * MIB), Volume("persistent", 100 * MIB, "ext4")),
        device=loop_disk,
        layout=LAYOUT,
    )
    with Session(HERE) as session:
        operations = session.prepare([lambda: volumes(plan=plan)])
    changing = [op.name.removeprefix("Volumes | ") for op in operations if op.changes]
    assert changing[-8:] == [
        f"Partition {loop_disk}",
        "Filesystem of /boot",
        f"Physical volume {loop_disk}p3",
        "Volume group test-box",
        "Logical volume root",
        "Logical volume persistent",
        "Filesystem of persistent",
        "Copy the root",
    ]


def test_what_starts_the_copied_root_comes_last_and_tells_the_firmware_after_that() -> None:
    """What is left undone when the host starts as a box already, no later provision does."""
    efi = EfiPlan("/dev/vdb2", disk="/dev/vdb", number=2, new=True, entry=True, old="/dev/vda1")
    plan = replace(PLAN, boot_partition="/dev/vdb3", device="/dev/vdb", efi=efi)
    with Session(HERE) as session:
        operations = session.prepare([lambda: boot_copy(plan=plan, settings=Settings())])
    names = [op.name.removeprefix("Boot of the copied root | ") for op in operations]
    assert names[-9:] == [
        "Boot | Initrds and GRUB entries",
        "Next boot into maintenance",
        "Name of the loader",
        "Install GRUB",
        "Upgrades renew the removable path",
        "Loader at the removable path",
        "Old loader leaves the removable path",
        "Boot entry",
        "Unmount the copied root",
    ]


@pytest.mark.usefixtures("two_volumes")
def test_the_deploy_on_a_box_touches_no_volume() -> None:
    plan = VolumePlan(Kind.BOX, "test-box", "root", "root_snap", "100%ORIGIN")
    with Session(HERE) as session:
        names = [op.name for op in session.prepare([lambda: volumes(plan=plan)])]
    assert [name.removeprefix("Volumes | ") for name in names] == [
        "LVM and initramfs tools",
        "LVM gives freed space back",
        "fstab entry of /persistent",
    ]


def test_a_box_that_lacks_a_volume_gets_it_and_its_mount_point() -> None:
    missing = (Volume("persistent", 100 * MIB, "ext4"),)
    plan = VolumePlan(Kind.BOX, "test-box", "root", "root_snap", "100%ORIGIN", volumes=missing)
    with Session(HERE) as session:
        names = [op.name for op in session.prepare([lambda: volumes(plan=plan)])]
    assert [name.removeprefix("Volumes | ") for name in names[2:]] == [
        "Logical volume persistent",
        "Filesystem of persistent",
        "Mount point of persistent",
        "fstab entry of persistent",
        "Mount persistent",
    ]


@pytest.fixture
def own_loop() -> Iterator[str]:
    """A loop device that is gone at the end: its limits outlive a file, and nobody lifts them."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    with Path("/dev/loop-control").open("rb") as control:
        number = fcntl.ioctl(control, _LOOP_CTL_ADD, -1)
        device = f"/dev/loop{number}"
        yield device
        subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
        fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)


def test_a_file_is_attached_with_all_of_its_blocks_and_keeps_them(
    own_loop: str, tmp_path: Path
) -> None:
    box_file, begun = tmp_path / "pipeline/box.img", tmp_path / "pipeline/box.img.new"
    path = str(box_file)
    with Session(HERE) as session:
        found = session.fact(AttachedFile, path=path)
    assert found == LoopFile(device=found.device)
    assert found.device.startswith("/dev/loop")
    box_file.parent.mkdir()
    begun.write_bytes(b"of a power cut")  # its loop device is gone

    def deploy() -> None:
        disks.loop_file(path=path, size=64 * MIB, device=own_loop)

    assert len(apply(deploy)) == 1
    assert apply(deploy) == ()
    allocated = begun.stat().st_blocks * 512
    assert allocated >= 64 * MIB
    run("mkfs.ext4", "-q", "-E", "discard", own_loop)
    subprocess.run(["blkdiscard", "--force", own_loop], capture_output=True, check=False)
    run("blkdiscard", "--zeroout", own_loop)
    assert begun.stat().st_blocks * 512 >= allocated

    begun.rename(box_file)  # as the first boot of the box does
    with Session(HERE) as session:
        found = session.fact(AttachedFile, path=path)
    assert found == LoopFile(64 * MIB, whole=True, device=own_loop, attached=True)
    assert apply(deploy) == ()
