"""The plan of a box in a file on the host's own root, and who gets none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploys.errors import PreflightError
from deploys.facts.disks import BlockDevice, BlockTree, LoopFile, Mount
from deploys.facts.lvm import (
    LogicalVolume,
    LvmConfig,
    LvmReport,
    PhysicalVolume,
    VolumeGroup,
    cow_size,
)
from deploys.operations.root import HOST
from deploys.plan.of_file import its_kind
from deploys.plan.of_firmware import EfiPlan
from deploys.plan.preflight import plan_volumes
from deploys.plan.result import Kind
from deploys.plan.sizes import EXTENT, RESERVE_PERCENT, group_size, least_root, needed_file
from deploys.plan.survey import Device, Survey
from deploys.reset.boot import DEFAULTS, sources
from deploys.settings import GIB, MIB, Settings, Volumes
from tests.unit.deploys.plan.survey_builder import (
    FREE,
    UEFI,
    WITH_REMOVABLE,
    by_uefi,
    disk,
    lvm_host,
    one_disk,
    part,
)

SETTINGS = Volumes()


def attached(*lvs: LogicalVolume) -> Survey:
    """An earlier run was broken off when it had made these volumes."""
    file = LoopFile(17 * GIB, device="/dev/loop3", attached=True)
    pv = PhysicalVolume("/dev/loop3", "vagrant-pipeline", 17 * GIB, 0)
    group = VolumeGroup("vagrant-pipeline", 17 * GIB, 0, EXTENT, (pv,), lvs)
    loop = BlockDevice("/dev/loop3", "loop", 17 * GIB, "LVM2_member")
    return replace(one_disk(loop, used=21 * GIB, file=file), lvm=LvmReport((group,)))


def test_where_there_is_no_other_way_the_box_lies_in_a_file() -> None:
    plan = plan_volumes(one_disk(), SETTINGS)
    assert plan.kind is Kind.FILE
    assert (plan.file, plan.device, plan.physical_volume) == (
        "/pipeline/box.img",
        "/dev/loop3",
        "/dev/loop3",
    )
    assert (plan.old_root, plan.old_root_uuid) == ("/dev/vda1", "OLD-UUID")
    assert plan.boot_partition == "/pipeline/boot"
    assert plan.grub_disks == ("/dev/vda",)
    names = [row[:2] for row in plan.rows()]
    assert names == [
        ("file", "/pipeline/box.img"),
        ("physical volume", "/dev/loop3"),
        ("volume group", "vagrant-pipeline"),
        ("logical volume", "vagrant-pipeline/root"),
        ("logical volume", "vagrant-pipeline/persistent"),
        ("filesystem", "/dev/mapper/vagrant--pipeline-persistent"),
        ("logical volume", "vagrant-pipeline/swap"),
        ("filesystem", "/dev/mapper/vagrant--pipeline-swap"),
        ("copy", "/dev/vda1"),
        ("boot loader", "/dev/vda"),
        ("keep", "/dev/vda1"),
    ]
    assert all("\n" not in detail for _, _, detail in plan.rows())


@pytest.mark.parametrize("size", [None, 0, 30 * GIB])
def test_the_snapshot_that_cannot_fill_fits_into_the_file(size: int | None) -> None:
    """The root takes what it needs, or what the size that was asked for gives it."""
    plan = plan_volumes(one_disk(), SETTINGS, in_file=size)
    root = plan.volumes[0].size
    assert root >= 4 * GIB * 13 // 10 + GIB
    assert (root > 12 * GIB) == (size == 30 * GIB)
    assert plan.file_size == size or not size
    taken = sum(v.size for v in plan.volumes) + cow_size(root, SETTINGS.chunksize, EXTENT)
    group = group_size(plan.file_size)
    assert RESERVE_PERCENT <= (group - taken) * 100 / group < RESERVE_PERCENT + 0.5


def test_a_box_knows_that_it_lies_in_a_file() -> None:
    """And has the script that leaves the host's root clean; no other box has."""
    script = "/usr/lib/systemd/system-shutdown/resnap"
    plan = plan_volumes(one_disk(), SETTINGS)
    made = sources(plan, Settings())
    assert made[script].mode == 0o755
    assert b"\nVOLFILE=/pipeline/box.img\n" in made[DEFAULTS].content
    made = sources(replace(plan, kind=Kind.SPARE, file=""), Settings())
    assert script not in made
    assert b"VOLFILE" not in made[DEFAULTS].content


def on_lvm(*more: BlockDevice, free: int = 0, **boot: Any) -> Survey:
    """A host whose root has a volume group of 60 GiB, and not much in it; ``more`` are disks."""
    root = LogicalVolume("root", "host-vg", 60 * GIB)
    survey = lvm_host(root, free=free, spare=more, **boot)
    mount = replace(survey.mounts[0], size=60 * GIB, used=4 * GIB, avail=53 * GIB)
    return replace(survey, mounts=(mount, *survey.mounts[1:]), file=FREE)


def test_a_group_without_room_leaves_no_other_way() -> None:
    """The box's /boot is on the host's, which is a partition."""
    survey = on_lvm()
    plan = plan_volumes(survey, SETTINGS)
    assert (plan.kind, plan.volgroup) == (Kind.FILE, "vagrant-pipeline")
    assert (plan.boot_partition, plan.grub_disks) == ("/boot/pipeline", ("/dev/vda",))
    assert plan.old_root == "/dev/mapper/host--vg-root"
    assert its_kind(survey) == "BIOS and ext4 on LVM with /boot of its own"
    assert plan_volumes(on_lvm(free=70 * GIB), SETTINGS).kind is Kind.LVM
    assert plan_volumes(on_lvm(free=70 * GIB), SETTINGS, in_file=0).kind is Kind.FILE
    with pytest.raises(PreflightError, match=r"need 62\.0 GiB: name an empty disk with --device$"):
        plan_volumes(on_lvm(disk("/dev/vdb", 24 * GIB)), SETTINGS)


def test_what_broke_off_on_lvm_with_room_goes_on_in_the_file() -> None:
    survey = replace(on_lvm(free=70 * GIB), file=attached().file)
    pv = PhysicalVolume("/dev/loop3", "vagrant-pipeline", 17 * GIB, 17 * GIB)
    begun = VolumeGroup("vagrant-pipeline", 17 * GIB, 17 * GIB, EXTENT, (pv,))
    survey = replace(survey, lvm=LvmReport((*survey.lvm.groups, begun)))
    assert plan_volumes(survey, SETTINGS).kind is Kind.FILE


def test_firmware_starts_it_by_a_loader_beside_the_hosts_own() -> None:
    plan = plan_volumes(by_uefi(one_disk(), WITH_REMOVABLE, mounted=True), SETTINGS)
    assert plan.efi == EfiPlan("/dev/vda15", disk="/dev/vda", number=15, entry=True)
    assert plan.efi.is_changed
    rows = plan.rows()
    assert ("boot loader", "/dev/vda15", "EFI/pipeline and EFI/BOOT") in rows
    assert ("boot entry", "pipeline", "to /dev/vda15, the first") in rows
    assert ("boot loader", "/dev/vda", "GRUB, starts the box") not in rows


def test_a_disk_that_is_not_in_use_is_for_the_user_to_choose() -> None:
    spare = disk("/dev/vdb", 24 * GIB)
    with pytest.raises(PreflightError, match=r"\(/dev/vdb is not in use\), or say --in-file$"):
        plan_volumes(one_disk(spare), SETTINGS)
    assert plan_volumes(one_disk(spare), SETTINGS, in_file=0).kind is Kind.FILE


@pytest.mark.parametrize(
    "other",
    [
        disk("/dev/vdb", 24 * GIB, part("/dev/vdb1", GIB, on="/data", fstype="xfs")),
        disk("/dev/vdb", 24 * GIB, BlockDevice("/dev/md0", "raid1", GIB)),
        disk("/dev/vdb", 24 * GIB, ro=True),
        disk("/dev/sdz", 0),  # a card reader without a card
    ],
)
def test_a_disk_that_is_in_use_is_no_other_way(other: BlockDevice) -> None:
    assert plan_volumes(one_disk(other), SETTINGS).kind is Kind.FILE


def test_what_broke_off_goes_on() -> None:
    root = LogicalVolume("root", "vagrant-pipeline", 6 * GIB)
    plan = plan_volumes(attached(root), SETTINGS)
    assert (plan.kind, plan.file_size, plan.copied) == (Kind.FILE, 0, False)
    assert plan.volumes[0].exists
    assert plan.rows()[0] == ("physical volume", "/dev/loop3", "on /pipeline/box.img")
    copied = plan_volumes(attached(replace(root, tags=("resnap.copied",))), SETTINGS)
    assert copied.copied
    assert "copy" not in [row[0] for row in copied.rows()]


def test_what_a_power_cut_left_of_a_file_is_made_anew() -> None:
    """It was no box yet; its room is for the new one."""
    left = one_disk(used=21 * GIB, file=replace(FREE, size=17 * GIB))
    plan, anew = (plan_volumes(each, SETTINGS) for each in (left, one_disk()))
    assert plan == anew
    assert plan.file_size


def test_the_hosts_root_below_a_box_is_not_said_to_be_kept() -> None:
    survey = one_disk()
    beside = (Mount(HOST, "/dev/vda1", "ext4"), Mount("/home", "/dev/vda1", "ext4"))
    assert [m.target for m in replace(survey, mounts=(*survey.mounts, *beside)).lasting] == [
        "/home"
    ]


_POOL = BlockDevice(
    "/dev/mapper/host--vg-pool",
    "lvm",
    GIB,
    children=(BlockDevice("/dev/mapper/host--vg-root", "lvm", GIB, mountpoints=("/",)),),
)
THIN = replace(
    on_lvm(),
    blocks=BlockTree((disk("/dev/vda", GIB, part("/dev/vda2", GIB, children=(_POOL,))),)),
)
RAID = replace(
    one_disk(),
    blocks=BlockTree(
        tuple(
            disk(name, 40 * GIB, BlockDevice("/dev/vda1", "raid1", 40 * GIB, mountpoints=("/",)))
            for name in ("/dev/sda", "/dev/sdb")
        )
    ),
)
_HOST = by_uefi(one_disk(), mounted=True)
_DISK = _HOST.blocks.disks[0]
ESP_ON_RAID = replace(
    _HOST,
    blocks=BlockTree(
        (
            replace(
                _DISK,
                children=(*_DISK.children[:-1], replace(_DISK.children[-1], type="raid1")),
            ),
        )
    ),
)
ELSEWHERE = LvmReport(
    (VolumeGroup("vagrant-pipeline", GIB, 0, EXTENT, (PhysicalVolume("/dev/x", "", 1, 0),)),)
)
CASES: dict[str, tuple[Survey, int | None, dict[str, object], str]] = {
    "no room": (
        one_disk(used=20 * GIB),
        None,
        {},
        "the root (/dev/vda1) has 19.0 GiB free; a box in a file of 60.0 GiB needs 62.2 GiB",
    ),
    "too small a file": (one_disk(), 8 * GIB, {}, "a file of 8.0 GiB is too small: the volumes"),
    "a root too small": (one_disk(), None, {"root_size": "3G"}, "volumes.root_size 3.0 GiB is"),
    "uefi without its partition": (by_uefi(one_disk(), esps=0), None, {}, "no EFI system partit"),
    "uefi without room": (
        by_uefi(one_disk(), free=5 * MIB),
        None,
        {},
        "/dev/vda15 has 5 MiB free; a second boot loader needs 16 MiB",
    ),
    "uefi's partition on RAID": (
        ESP_ON_RAID,
        None,
        {},
        "/dev/vda15 is no partition: a boot entry cannot name it",
    ),
    "secure, and nothing signed": (
        by_uefi(one_disk(), firmware=replace(UEFI, secure_boot=True, signed=False)),
        0,
        {},
        "Secure Boot is on, and the signed loader is not installed",
    ),
    "btrfs": (
        replace(one_disk(), mounts=(Mount("/", "/dev/vda1", "btrfs"),)),
        None,
        {},
        "name an empty disk with --device; the box cannot lie in a file on this root, as its "
        "filesystem is btrfs; it must be ext4 or xfs",
    ),
    "raid": (RAID, None, {}, "it must be a partition of a disk, or a plain LV on one"),
    "a thin root": (THIN, 0, {}, "it must be a partition of a disk, or a plain LV on one"),
    "/boot on RAID": (
        on_lvm(boot=BlockDevice("/dev/md1", "raid1", GIB, mountpoints=("/boot",))),
        0,
        {},
        "/boot (/dev/md1) must be part of it, or a partition with ext4",
    ),
    "/boot without room": (
        on_lvm(boot_free=150 * MIB),
        None,
        {},
        "/boot (/dev/vda1) has 150 MiB free; the box's kernels and initrds need 160 MiB there",
    ),
    "hidden from LVM": (
        replace(one_disk(), lvm_config=LvmConfig({"filter": ["a|^/dev/vda|", "r|.*|"]})),
        None,
        {},
        "as filter in lvm.conf hides /dev/loop3 from LVM",
    ),
    "no loop device": (one_disk(file=LoopFile()), None, {}, "the host has no free loop device"),
    "old root of a box": (
        one_disk(file=replace(FREE, size=17 * GIB, whole=True)),
        None,
        {},
        "/pipeline/box.img exists: the host runs on the root it had before it was a box",
    ),
    "a group elsewhere": (
        replace(one_disk(), lvm=ELSEWHERE),
        0,
        {},
        "volume group vagrant-pipeline exists already (on /dev/x)",
    ),
    "a disk too": (
        replace(one_disk(disk("/dev/vdb", GIB)), device=Device("/dev/vdb", "/dev/vdb")),
        0,
        {},
        "--in-file and --device exclude each other",
    ),
    "a box elsewhere": (
        lvm_host(
            LogicalVolume("root", "host-vg", 4 * GIB),
            LogicalVolume("persistent", "host-vg", 2 * GIB),
            LogicalVolume("root_snap", "host-vg", 5 * GIB, origin="root"),
            free=20 * GIB,
            mounted="root_snap",
        ),
        0,
        {},
        "the host is a box already, and does not lie in a file",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case: str) -> None:
    survey, size, settings, line = CASES[case]
    with pytest.raises(PreflightError) as refusal:
        plan_volumes(survey, Volumes.model_validate(settings), in_file=size)
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_smallest_file_that_a_refusal_names_is_taken() -> None:
    needed = needed_file(least_root(4 * GIB, SETTINGS), SETTINGS)
    assert plan_volumes(one_disk(), SETTINGS, in_file=needed).file_size == needed
    with pytest.raises(PreflightError, match="is too small"):
        plan_volumes(one_disk(), SETTINGS, in_file=needed - EXTENT)
