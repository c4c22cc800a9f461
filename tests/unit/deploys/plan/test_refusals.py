"""Every host or disk that is not fit is refused in one line, before any change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploys.errors import PreflightError
from deploys.facts.disks import BlockDevice, BlockTree, Mount
from deploys.facts.lvm import (
    MISSING,
    LogicalVolume,
    LvmConfig,
    LvmReport,
    PhysicalVolume,
    VolumeGroup,
)
from deploys.plan.of_spare import spare_layout
from deploys.plan.preflight import plan_volumes
from deploys.plan.sizes import EXTENT
from deploys.plan.survey import Device, Survey
from deploys.settings import GIB, MIB, Volumes
from tests.unit.deploys.plan.survey_builder import disk, lvm_host, part, plain_host

pytestmark = pytest.mark.usefixtures("two_volumes")
SPARE = disk("/dev/vdb", 24 * GIB)


def in_group(name: str) -> LvmReport:
    pv = PhysicalVolume("/dev/vdb1", name, GIB, 0)
    return LvmReport((VolumeGroup(name, GIB, 0, EXTENT, (pv,)),))


def with_spare(**more: object) -> Survey:
    return plain_host(replace(SPARE, **more))  # type: ignore[arg-type]


def without_pv() -> LvmReport:
    """The host's volume group, of which LVM sees no more than the root's volume."""
    [group] = lvm_host(free=10 * GIB).lvm.groups
    return LvmReport((replace(group, pvs=(*group.pvs, PhysicalVolume(MISSING, "x", GIB, 0))),))


PV = "LVM2_member"
ONLY_VDA = {"global_filter": ["a|^/dev/vda|", "r|.*|"]}
VDB1 = part("/dev/vdb1", GIB, fstype="ext4")
MIRROR = BlockDevice("/dev/md0", "raid1", GIB)
THIN = LogicalVolume("root", "host-vg", 4 * GIB, layout="thin,sparse")
SNAP = LogicalVolume("snap", "host-vg", 4 * GIB, origin="root")
GOLDEN = LogicalVolume("root", "vagrant-pipeline", GIB, tags=("resnap.copied",))
ELSEWHERE = BlockDevice(
    "/dev/mapper/host--vg-persistent", "lvm", GIB, "ext4", mountpoints=("/data",)
)

CASES: dict[str, tuple[Survey, dict[str, object], str]] = {
    "no device": (plain_host(SPARE, device=None), {}, "name an empty disk with --device"),
    "device missing": (
        replace(plain_host(SPARE), device=Device("/dev/vdz", "")),
        {},
        "/dev/vdz does not exist on the host",
    ),
    "not a block device": (
        replace(plain_host(SPARE), device=Device("/etc/passwd", "/etc/passwd")),
        {},
        "/etc/passwd is not a disk",
    ),
    "a clone": (
        replace(
            lvm_host(free=GIB),
            blocks=BlockTree(
                tuple(
                    disk(name, 24 * GIB, replace(part(f"{name}1", GIB), uuid="x", fstype=PV))
                    for name in ("/dev/vda", "/dev/vdb")
                )
            ),
        ),
        {},
        "/dev/vda1 and /dev/vdb1 have the same physical volume",
    ),
    "a root's group that LVM does not see": (
        replace(lvm_host(free=10 * GIB), lvm=LvmReport()),
        {},
        "LVM does not show the root's volume /dev/mapper/host--vg-root: a filter",
    ),
    "a root's group that LVM sees a part of": (
        replace(lvm_host(free=10 * GIB), lvm=without_pv()),
        {},
        "volume group host-vg lacks a physical volume",
    ),
    "a spare disk that LVM would not see": (
        replace(plain_host(SPARE), lvm_config=LvmConfig(ONLY_VDA)),
        {},
        "LVM would not see /dev/vdb3: global_filter in lvm.conf hides it",
    ),
    "a disk for the group that LVM would not see": (
        replace(
            lvm_host(free=GIB, spare=(SPARE,), device="/dev/vdb"), lvm_config=LvmConfig(ONLY_VDA)
        ),
        {},
        "LVM would not see /dev/vdb1: global_filter in lvm.conf hides it",
    ),
    "a partition": (
        plain_host(disk("/dev/vdb", 24 * GIB, VDB1), device="/dev/vdb1"),
        {},
        "/dev/vdb1 is a partition; name a whole disk",
    ),
    "read-only": (with_spare(ro=True), {}, "/dev/vdb is read-only"),
    "the root disk": (
        plain_host(SPARE, device="/dev/vda"),
        {},
        "/dev/vda is the disk that the host runs from",
    ),
    "mounted": (
        with_spare(children=(part("/dev/vdb1", GIB, on="/srv"),)),
        {},
        "in use: /dev/vdb1 on /srv",
    ),
    "swap in use": (with_spare(mountpoints=("[SWAP]",)), {}, "in use: /dev/vdb on [SWAP]"),
    "in a volume group": (
        replace(plain_host(disk("/dev/vdb", 24 * GIB, VDB1)), lvm=in_group("data")),
        {},
        "/dev/vdb is in volume group data (/dev/vdb1)",
    ),
    "in a mirror": (with_spare(children=(MIRROR,)), {}, "in use by /dev/md0 (raid1)"),
    "too small": (
        with_spare(size=4 * GIB),
        {},
        "/dev/vdb is too small: it has 4.0 GiB, the volumes need 8.",
    ),
    "carries a filesystem": (with_spare(fstype="xfs"), {}, "carries xfs on /dev/vdb: --force"),
    "carries a partition table": (with_spare(pttype="dos"), {}, "carries dos on /dev/vdb"),
    "carries what only wipefs sees": (
        replace(plain_host(SPARE), device=Device("/dev/vdb", "/dev/vdb", ("gpt", "zfs_member"))),
        {},
        "carries gpt and zfs_member on /dev/vdb",
    ),
    "a box that was given back, and LVM with it": (
        plain_host(
            disk(
                "/dev/vdb",
                24 * GIB,
                *(
                    part(f"/dev/vdb{n}", each.size or GIB, partlabel=each.label, fstype=PV)
                    for n, each in enumerate(spare_layout(Volumes()), 1)
                ),
            )
        ),
        {},
        "/dev/vdb carries gpt on /dev/vdb; LVM2_member on /dev/vdb1",
    ),
    "group name taken": (
        replace(plain_host(SPARE), lvm=in_group("vagrant-pipeline")),
        {},
        "volume group vagrant-pipeline exists already (on /dev/vdb1): choose another name",
    ),
    "on the old root": (
        replace(
            plain_host(device=None),
            lvm=LvmReport((VolumeGroup("vagrant-pipeline", GIB, 0, EXTENT, (), (GOLDEN,)),)),
        ),
        {},
        "runs on the root it had before",
    ),
    "lvsize larger than free": (
        plain_host(SPARE),
        {"lvsize": "40G"},
        "volumes.lvsize 40G is larger than the 17",
    ),
    "root_size too small": (
        plain_host(SPARE, used=4 * GIB),
        {"root_size": "3G"},
        "volumes.root_size 3.0 GiB is too small: the root in use needs 6.2 GiB",
    ),
    "boot_size too small": (
        replace(plain_host(SPARE), kernel=200 * MIB),
        {},
        "volumes.boot_size 512 MiB is too small",
    ),
    "root type": (plain_host(SPARE, root="btrfs"), {}, "root filesystem is btrfs"),
    "var of its own": (
        replace(plain_host(SPARE), mounts=(*plain_host().mounts, Mount("/var", "/dev/vdc", "xfs"))),
        {},
        "/var is a filesystem of its own (/dev/vdc)",
    ),
    "root on RAID": (
        replace(
            plain_host(),
            blocks=BlockTree((disk("/dev/vda", GIB, part("/dev/vda1", GIB, children=(MIRROR,))),)),
            mounts=(Mount("/", "/dev/md0", "ext4"),),
        ),
        {},
        "root lies on /dev/md0 (raid1)",
    ),
    "root not on a disk": (
        replace(plain_host(), mounts=(Mount("/", "overlay", "overlay"),)),
        {},
        "the root filesystem (overlay) is not on a disk",
    ),
    "no /boot": (
        lvm_host(free=10 * GIB, boot=part("/dev/vda1", MIB)),
        {},
        "/boot is not a partition of its own",
    ),
    "/boot not a plain partition": (
        lvm_host(free=10 * GIB, boot=BlockDevice("/dev/md1", "raid1", GIB, mountpoints=("/boot",))),
        {},
        "/boot (/dev/md1) must be a plain partition",
    ),
    "/boot too full": (
        lvm_host(free=10 * GIB, boot_free=70 * MIB),
        {},
        "/boot has 70 MiB free; a second kernel and initrd need 80 MiB",
    ),
    "no room in the group": (
        lvm_host(free=GIB),
        {},
        "host-vg has 1.0 GiB free, too little for a box: name an empty disk with --device; the box "
        "cannot lie in a file on this root, as the host has no free loop device",
    ),
    "no room with the disk": (
        lvm_host(free=GIB, spare=(disk("/dev/vdb", GIB),), device="/dev/vdb"),
        {},
        "the volumes need 6.0 GiB: name a larger disk with --device",
    ),
    "lvsize in the group": (
        lvm_host(free=10 * GIB),
        {"lvsize": "9G"},
        "volumes.lvsize 9G is larger than the 8.0 GiB that volume group host-vg has free",
    ),
    "persistent in use elsewhere": (
        replace(
            lvm_host(free=10 * GIB),
            blocks=BlockTree((*lvm_host(free=10 * GIB).blocks.disks, ELSEWHERE)),
        ),
        {},
        "host-vg/persistent exists and is in use on /data",
    ),
    "thin root": (lvm_host(THIN, free=10 * GIB), {}, "the root LV is thin,sparse"),
    "root is a snapshot": (
        lvm_host(THIN, SNAP, free=10 * GIB, mounted="snap"),
        {},
        "already a snapshot, of host-vg/root",
    ),
    "snapshot name taken": (
        lvm_host(
            LogicalVolume("root", "host-vg", GIB),
            LogicalVolume("root_snap", "host-vg", GIB),
            free=10 * GIB,
        ),
        {},
        "host-vg/root_snap exists and is no snapshot of the root",
    ),
    "not the box's disk": (
        lvm_host(
            LogicalVolume("root", "host-vg", GIB),
            LogicalVolume("persistent", "host-vg", GIB),
            LogicalVolume("root_snap", "host-vg", GIB, origin="root"),
            free=GIB,
            mounted="root_snap",
            spare=(SPARE,),
            device="/dev/vdb",
        ),
        {},
        "a box already, and /dev/vdb is not part of it",
    ),
    "a snapshot larger than a box has room for": (
        lvm_host(
            LogicalVolume("root", "host-vg", 4 * GIB),
            LogicalVolume("persistent", "host-vg", GIB),
            LogicalVolume("root_snap", "host-vg", 2 * GIB, origin="root"),
            free=GIB,
            mounted="root_snap",
        ),
        {"lvsize": "3076M"},
        "lvsize 3076M is larger than the 3.0 GiB that volume group host-vg has for the snapshot",
    ),
    "a snapshot named as the golden root": (
        plain_host(SPARE),
        {"lvroot": "gold", "lvsnap": "gold"},
        "volumes.lvsnap gold: another volume of a box has this name",
    ),
    "a snapshot named as the safety snapshot": (
        plain_host(SPARE),
        {"lvsnap": "root_safety"},
        "volumes.lvsnap root_safety: another volume",
    ),
    "a snapshot named as a box's own volume": (
        lvm_host(LogicalVolume("root", "host-vg", GIB), free=4 * GIB),
        {"lvsnap": "persistent"},
        "volumes.lvsnap persistent: another volume",
    ),
    "a root named as a box's own volume": (
        plain_host(SPARE),
        {"lvroot": "persistent"},
        "volumes.lvroot persistent: another volume",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_one_line(case: str) -> None:
    survey, settings, line = CASES[case]
    with pytest.raises(PreflightError) as refusal:
        plan_volumes(survey, Volumes.model_validate(settings))
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("case", ["mounted", "in a volume group", "in a mirror", "too small"])
def test_force_does_not_take_what_is_in_use(case: str) -> None:
    survey, settings, line = CASES[case]
    with pytest.raises(PreflightError) as refusal:
        plan_volumes(survey, Volumes.model_validate(settings), force=True)
    assert line in str(refusal.value)


def test_a_filter_that_takes_the_disk_by_another_name_hides_nothing() -> None:
    spare = replace(
        plain_host(SPARE),
        device=Device("/dev/vdb", "/dev/vdb", links=("/dev/disk/by-id/virtio-x",)),
        lvm_config=LvmConfig({"filter": ["a|/by-id/virtio-x-part|", "r|.*|"]}),
    )
    assert plan_volumes(spare, Volumes()).device == "/dev/vdb"
