"""The plan of each kind of host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploys.errors import PreflightError
from deploys.facts.disks import BlockTree, Mount
from deploys.facts.lvm import (
    BEFORE_TAG,
    LogicalVolume,
    LvmReport,
    PhysicalVolume,
    VolumeGroup,
    cow_size,
)
from deploys.plan.of_spare import spare_layout
from deploys.plan.preflight import plan_volumes
from deploys.plan.result import Kind
from deploys.plan.sizes import (
    EXTENT,
    RESERVE_PERCENT,
    group_size,
    needed_disk,
    root_and_snapshot,
)
from deploys.plan.survey import Survey
from deploys.settings import GIB, KIB, MIB, Volumes
from tests.unit.deploys.plan.survey_builder import disk, lvm_host, part, plain_host

pytestmark = pytest.mark.usefixtures("two_volumes")
SETTINGS = Volumes()
SPARE = disk("/dev/vdb", 24 * GIB)
ROOT = LogicalVolume("root", "host-vg", 4 * GIB)
PERSISTENT = LogicalVolume("persistent", "host-vg", 2 * GIB)
SNAP = LogicalVolume("root_snap", "host-vg", 5 * GIB, origin="root")


def our_disk() -> object:
    paths = ("/dev/vdb1", "/dev/vdb2", "/dev/vdb3")
    parts = [
        part(path, wanted.size or 20 * GIB, partlabel=wanted.label)
        for path, wanted in zip(paths, spare_layout(SETTINGS), strict=True)
    ]
    return disk("/dev/vdb", 24 * GIB, *parts)


def our_group(*lvs: LogicalVolume, on: str = "/dev/vdb3") -> LvmReport:
    pv = PhysicalVolume(on, "vagrant-pipeline", 20 * GIB, 0)
    return LvmReport((VolumeGroup("vagrant-pipeline", 20 * GIB, 0, EXTENT, (pv,), lvs),))


def test_a_plain_root_moves_to_the_spare_disk() -> None:
    plan = plan_volumes(plain_host(SPARE), SETTINGS)
    assert plan.kind is Kind.SPARE
    assert (plan.volgroup, plan.lvroot, plan.lvsnap) == ("vagrant-pipeline", "root", "root_snap")
    assert plan.boot_partition == "/dev/vdb2"
    assert plan.physical_volume == "/dev/vdb3"
    assert plan.grub_disks == ("/dev/vdb", "/dev/vda")
    assert (plan.old_root, plan.old_root_uuid) == ("/dev/vda1", "OLD-UUID")
    assert plan.old_boot_uuid == "OLD-UUID"  # a part of it
    assert [row[0] for row in plan.rows()] == [
        "partition",
        "filesystem",
        "physical volume",
        "volume group",
        "logical volume",
        "logical volume",
        "filesystem",
        "logical volume",
        "filesystem",
        "copy",
    ]


def test_the_snapshot_that_cannot_fill_fits_beside_the_root_and_a_reserve_stays_free() -> None:
    plan = plan_volumes(plain_host(SPARE), SETTINGS)
    group = group_size(SPARE.size, SETTINGS.boot_size)
    taken = sum(v.size for v in plan.volumes) + cow_size(
        plan.volumes[0].size, SETTINGS.chunksize, EXTENT
    )
    left = (group - taken) * 100 / group
    assert RESERVE_PERCENT <= left < RESERVE_PERCENT + 0.2  # the root is as large as it can be


@pytest.mark.parametrize("host", [plain_host(SPARE), lvm_host(free=20 * GIB)])
def test_the_plan_says_which_filesystems_are_never_reset(host: Survey) -> None:
    """A /home of its own, but no share and not /boot."""
    home = part("/dev/vdc1", GIB, on="/home", fstype="ext4")
    more = (
        Mount("/home", "/dev/vdc1", "ext4"),
        Mount("/net", "server:/net", "nfs4"),
        Mount("/boot", "/dev/vdc1", "ext4"),
    )
    blocks = BlockTree((*host.blocks.disks, disk("/dev/vdc", GIB, home)))
    plan = plan_volumes(replace(host, blocks=blocks, mounts=(*host.mounts, *more)), SETTINGS)
    kept = [row for row in plan.rows() if row[0] == "keep"]
    assert kept == [("keep", "/home", "/dev/vdc1, never reset")]


def test_an_nvme_disk_has_a_p_before_its_partition_numbers() -> None:
    nvme = disk("/dev/nvme0n1", 24 * GIB)
    plan = plan_volumes(plain_host(nvme, device="/dev/nvme0n1"), SETTINGS)
    assert plan.boot_partition == "/dev/nvme0n1p2"


def test_the_smallest_disk_a_refusal_names_is_taken() -> None:
    least = needed_disk(2 * GIB, SETTINGS)
    survey = plain_host(disk("/dev/vdb", least), used=GIB // 2)
    assert plan_volumes(survey, SETTINGS).volumes[0].size >= 2 * GIB


def test_force_wipes_and_says_what() -> None:
    carrying = disk("/dev/vdb", 24 * GIB, part("/dev/vdb1", GIB, fstype="xfs"))
    plan = plan_volumes(plain_host(carrying), SETTINGS, force=True)
    assert plan.wipe == ("gpt on /dev/vdb", "xfs on /dev/vdb1")
    assert plan.rows()[0] == ("wipe", "/dev/vdb", "gpt on /dev/vdb; xfs on /dev/vdb1")


def test_a_run_that_broke_off_goes_on_without_force() -> None:
    golden = LogicalVolume("root", "vagrant-pipeline", 8 * GIB)
    survey = replace(plain_host(our_disk()), lvm=our_group(golden))  # type: ignore[arg-type]
    plan = plan_volumes(survey, SETTINGS)
    assert plan.wipe == ()
    assert plan.volumes[0].size == 8 * GIB  # as it was made, not as it would be now
    assert "copy" in [row[0] for row in plan.rows()]


def test_a_complete_copy_leaves_nothing_to_copy() -> None:
    lvs = [LogicalVolume(n, "vagrant-pipeline", GIB) for n in ("persistent", "swap")]
    golden = LogicalVolume("root", "vagrant-pipeline", 8 * GIB, tags=("resnap.copied",))
    survey = replace(plain_host(our_disk()), lvm=our_group(golden, *lvs))  # type: ignore[arg-type]
    assert not plan_volumes(survey, SETTINGS).rows()


def test_a_root_on_lvm_with_room_gets_persistent_and_keeps_its_names() -> None:
    plan = plan_volumes(lvm_host(free=10 * GIB), SETTINGS)
    assert plan.kind is Kind.LVM
    assert (plan.volgroup, plan.lvroot) == ("host-vg", "root")
    assert (plan.boot_partition, plan.grub_disks) == ("/dev/vda1", ("/dev/vda",))
    assert plan.rows() == [
        (
            "old root",
            "host-vg/root",
            "as root_before, 3.5 GiB: unprovision goes back to it",
        ),
        ("logical volume", "host-vg/persistent", "2.0 GiB"),
        ("filesystem", "/dev/mapper/host--vg-persistent", "ext4"),
        ("fstab", "/persistent", "/dev/mapper/host--vg-persistent"),
    ]


@pytest.mark.parametrize(
    ("free", "boot_free", "before"),
    [
        (20 * GIB, 300 * MIB, cow_size(4 * GIB, 64 * KIB, EXTENT)),  # it cannot overflow
        (7 * GIB + 4 * MIB, 300 * MIB, 512 * MIB),
        (7 * GIB, 300 * MIB, 0),
        (20 * GIB, 119 * MIB, 0),  # the old initrds stay in /boot, too
    ],
)
def test_a_root_on_lvm_is_kept_as_it_is_where_there_is_room(
    free: int, boot_free: int, before: int
) -> None:
    plan = plan_volumes(lvm_host(free=free, boot_free=boot_free), SETTINGS)
    assert plan.before == before
    assert ("no room to keep it" in plan.rows()[0][2]) is (before == 0)


def test_a_root_that_is_kept_by_a_run_that_broke_off_is_kept_once() -> None:
    kept = LogicalVolume("root_before", "host-vg", GIB, origin="root", tags=(BEFORE_TAG,))
    assert plan_volumes(lvm_host(ROOT, kept, free=20 * GIB), SETTINGS).before == GIB


def test_the_room_of_the_kept_root_is_not_the_next_resets() -> None:
    kept = LogicalVolume("root_before", "host-vg", 5 * GIB, origin="root", tags=(BEFORE_TAG,))
    small = LogicalVolume("root_snap", "host-vg", GIB, origin="root")
    survey = lvm_host(ROOT, PERSISTENT, kept, small, free=0, mounted="root_snap")
    with pytest.raises(PreflightError, match="lvsize"):
        plan_volumes(survey, SETTINGS)


def test_a_root_on_lvm_without_room_is_extended_by_the_disk() -> None:
    plan = plan_volumes(lvm_host(free=GIB, spare=(SPARE,), device="/dev/vdb"), SETTINGS)
    assert plan.kind is Kind.EXTEND
    assert plan.physical_volume == "/dev/vdb1"
    assert plan.grub_disks == ("/dev/vda",)
    assert ("extend volume group", "host-vg", "with /dev/vdb1") in plan.rows()


@pytest.mark.parametrize("mounted", ["root", "root_snap"])
def test_a_box_has_nothing_to_plan(mounted: str) -> None:
    survey = lvm_host(ROOT, PERSISTENT, SNAP, free=GIB, mounted=mounted)
    plan = plan_volumes(survey, SETTINGS)
    assert (plan.kind, plan.lvroot, plan.lvsnap) == (Kind.BOX, "root", "root_snap")
    assert not plan.rows()


@pytest.mark.parametrize("origin", [4 * MIB, GIB, 10 * GIB + EXTENT])
@pytest.mark.parametrize("chunk", [4096, 65536, 524288])
def test_a_full_snapshot_has_room_for_its_tables(origin: int, chunk: int) -> None:
    chunks = origin // chunk
    tables = -(-chunks // (chunk // 16))
    assert cow_size(origin, chunk, EXTENT) >= (1 + tables + chunks) * chunk
    assert cow_size(origin, chunk, EXTENT) % EXTENT == 0


def test_room_is_what_persistent_swap_and_reserve_leave() -> None:
    assert root_and_snapshot(100 * GIB, SETTINGS) == 100 * GIB - 3 * GIB - 5 * GIB
