"""The plan to give a host back: what goes, what a person is asked, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploys.errors import PreflightError
from deploys.facts.disks import BlockTree
from deploys.facts.lvm import (
    BEFORE_TAG,
    VERSION_TAG,
    LogicalVolume,
    LvmReport,
    PhysicalVolume,
    VolumeGroup,
)
from deploys.facts.state import HostState
from deploys.plan.of_spare import spare_layout
from deploys.plan.sizes import EXTENT
from deploys.plan.survey import Survey
from deploys.reset.back.before import Before
from deploys.reset.back.old_system import OldSystem
from deploys.reset.back.ways import Found, Way, no_way, plan_way
from deploys.settings import GIB, MIB, Volumes
from tests.unit.deploys.plan.survey_builder import by_uefi, disk, lvm_host, part, plain_host

pytestmark = pytest.mark.usefixtures("two_volumes")

BOX = HostState(
    defaults={"OLD_ROOT_UUID": "OLD-UUID"}, used={"/persistent": 300 * MIB}, secured="devel"
)
BARE = HostState()
OLD = OldSystem(there=True, noted=True, boots=True)
OF_SPARE = Before(
    "spare", "vagrant-pipeline", "root", "root_snap", "OLD-UUID", packages=("lvm2", "zstd")
)
OF_LVM = Before(
    "lvm", "host-vg", "root", "root_snap", volumes=("host-vg/root", "host-vg/data"), kept="swi-a-s"
)
ROOT = LogicalVolume("root", "host-vg", 4 * GIB)
KEPT = LogicalVolume("root_before", "host-vg", GIB, origin="root", tags=(BEFORE_TAG,))
BOXES = (
    LogicalVolume("persistent", "host-vg", 2 * GIB),
    LogicalVolume("root_snap", "host-vg", 4 * GIB, origin="root"),
    LogicalVolume("root_feed", "host-vg", GIB, origin="root", tags=(VERSION_TAG,)),
    LogicalVolume("of_user", "host-vg", GIB, origin="root"),
    LogicalVolume("data", "host-vg", GIB),
)


def our_disk(name: str = "/dev/vdb") -> Any:
    paths = (f"{name}1", f"{name}2", f"{name}3")
    parts = [
        part(path, wanted.size or 20 * GIB, partlabel=wanted.label)
        for path, wanted in zip(paths, spare_layout(Volumes()), strict=True)
    ]
    return disk(name, 24 * GIB, *parts)


def on_old_root(*others: Any) -> Survey:
    """A plain host on its old root, beside the box's disk."""
    pv = PhysicalVolume("/dev/vdb3", "vagrant-pipeline", 20 * GIB, 0)
    lvs = (LogicalVolume("persistent", "vagrant-pipeline", 2 * GIB),)
    group = VolumeGroup("vagrant-pipeline", 20 * GIB, 0, EXTENT, (pv,), lvs)
    survey = plain_host(our_disk(), *others, device=None)
    return replace(survey, lvm=LvmReport((group,)))


def on_box() -> Survey:
    """The same host on the box."""
    survey = on_old_root()
    box = replace(survey.mounts[0], source="/dev/mapper/vagrant--pipeline-root_snap")
    nodes = part(box.source, 4 * GIB, on="/")
    first, ours = survey.blocks.disks
    return replace(survey, blocks=BlockTree((first, ours, nodes)), mounts=(box,))


def in_file() -> Survey:
    """A host with one disk, on its box."""
    survey = on_box()
    pv = PhysicalVolume("/dev/loop0", "vagrant-pipeline", 20 * GIB, 0)
    [group] = survey.lvm.groups
    return replace(survey, lvm=LvmReport((replace(group, pvs=(pv,)),)))


def on_lvm(mounted: str = "root_snap", *lvs: LogicalVolume) -> Survey:
    return lvm_host(ROOT, *(lvs or (KEPT, *BOXES)), free=GIB, mounted=mounted)


def way(survey: Survey, before: Before, state: HostState = BOX, **more: Any) -> Way:
    return plan_way(Found(survey, state, before, **{"old": OLD, **more}))


def test_a_plain_host_leaves_the_box_and_its_disk_stays() -> None:
    found = way(on_box(), OF_SPARE)
    assert (found.leaves, found.maintenance, found.merges) == (True, False, False)
    assert (found.boot, found.wiped) == ("/dev/vdb2", ())
    assert found.loss == (
        "The host goes back to the root OLD-UUID; /dev/vdb stays as it is, and /persistent "
        "(300 MiB in use) with it."
    )
    assert [row[0] for row in found.rows] == ["boot", "boot sector", "remove", "keep"]


def test_on_the_old_root_it_goes_on_and_wipes_the_disk_if_that_is_asked() -> None:
    found = way(on_old_root(), OF_SPARE, BARE, wipe=True)
    assert not found.leaves
    assert found.packages == ("lvm2", "zstd")
    assert found.wiped == ("/dev/vdb1", "/dev/vdb2", "/dev/vdb3", "/dev/vdb")
    assert "/dev/vdb is erased, and /persistent (2.0 GiB) is lost." in found.loss
    # a run that broke off wiped it already
    assert way(plain_host(device=None), OF_SPARE, BARE, wipe=True).wiped == ()


OF_FILE = replace(OF_SPARE, kind="file")


def test_the_file_of_a_box_goes_with_all_that_is_in_it() -> None:
    found = way(in_file(), OF_FILE)
    assert (found.leaves, found.file, found.boot) == (True, "/pipeline/box.img", "")
    assert found.loss == (
        "The host goes back to the root OLD-UUID; /pipeline/box.img is removed, and /persistent "
        "(300 MiB in use) is lost."
    )
    assert [row[0] for row in found.rows] == ["boot", "boot sector", "remove", "remove"]
    after = way(plain_host(device=None), OF_FILE, BARE)
    assert (after.leaves, after.file, after.folder) == (
        False,
        "/pipeline/box.img",
        "/pipeline/boot",
    )
    own = way(plain_host(device=None), replace(OF_FILE, folder="/boot/pipeline"), BARE)
    assert own.folder == "/boot/pipeline"
    with pytest.raises(PreflightError, match="--wipe: the box has no disk of its own"):
        way(in_file(), OF_FILE, wipe=True)
    with pytest.raises(PreflightError, match="no record of what the host was"):
        way(in_file(), OF_FILE, old=OldSystem(there=True))


def test_firmware_gets_its_own_loader_back() -> None:
    found = way(by_uefi(on_old_root()), OF_SPARE, BARE)
    assert found.esps == ("/dev/vda15",)
    assert [row[:2] for row in found.rows][:2] == [
        ("boot entry", "pipeline"),
        ("loader", "EFI/BOOT/BOOTX64.EFI"),
    ]


def test_a_root_on_lvm_goes_back_from_maintenance() -> None:
    found = way(on_lvm(), OF_LVM)
    assert (found.leaves, found.maintenance, found.starts_merge) == (True, True, True)
    assert found.snapshots == ("root_snap", "root_feed")  # neither the kept root, nor the user's
    assert found.volumes == ("persistent",)
    assert found.boot == ""
    assert found.loss.endswith("since is lost, and /persistent (300 MiB in use) is lost.")
    assert not way(on_lvm("root"), OF_LVM).maintenance


def test_what_the_host_had_stays() -> None:
    had = replace(OF_LVM, volumes=(*OF_LVM.volumes, "host-vg/persistent"))
    found = way(on_lvm(), had)
    assert found.volumes == ()
    assert "/persistent" not in found.loss


@pytest.mark.parametrize(
    ("kept", "state", "leaves", "starts"),
    [
        ("swi-a-s", BOX, True, True),
        ("Swi-a-s", BOX, True, False),  # it broke off before the reboot
        ("Swi-a-s", BARE, False, False),  # LVM still merges
        ("", BARE, False, False),
        ("swi-a-s", BARE, True, True),  # of a first provision that broke off
    ],
)
def test_where_it_broke_off_is_seen(
    kept: str, state: HostState, leaves: bool, starts: bool
) -> None:
    found = way(on_lvm("root", *BOXES), replace(OF_LVM, kept=kept), state)
    assert (found.leaves, found.starts_merge) == (leaves, starts)


def test_a_disk_that_joined_the_group_leaves_it() -> None:
    added = disk("/dev/vdb", 9 * GIB, part("/dev/vdb1", 8 * GIB, partlabel="resnap-lvm"))
    survey = lvm_host(ROOT, KEPT, *BOXES, free=GIB, spare=(added,))
    [group] = survey.lvm.groups
    joined = PhysicalVolume("/dev/vdb1", "host-vg", 8 * GIB, 8 * GIB)
    with_it = replace(survey, lvm=LvmReport((replace(group, pvs=(*group.pvs, joined)),)))
    assert way(with_it, OF_LVM).parts == ("/dev/vdb1",)
    assert way(with_it, OF_LVM).wiped == ()
    # taken out by a run that broke off
    assert way(survey, OF_LVM, wipe=True).wiped == ("/dev/vdb1", "/dev/vdb")
    assert way(survey, OF_LVM, wipe=True).parts == ()


RECLAIMED = replace(BOX, defaults={"OLD_ROOT_UUID": "", "VOLGROUP": "a"})
TWO_DISKS = replace(
    on_box(),
    lvm=LvmReport(
        (
            VolumeGroup(
                "vagrant-pipeline",
                GIB,
                0,
                EXTENT,
                tuple(PhysicalVolume(f"/dev/{d}", "x", GIB, 0) for d in ("vdb3", "vda1")),
            ),
        )
    ),
)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Found(on_box(), replace(BOX, secured="worker"), OF_SPARE, OLD), "secured, for good"),
        (Found(on_box(), replace(BOX, in_trial=True), OF_SPARE, OLD), "it tries a change"),
        (Found(on_box(), BOX, replace(OF_SPARE, kind="cloud"), OLD), "newer than yours"),
        (Found(on_box(), RECLAIMED, OF_SPARE, OLD), "reclaimed: install the host anew"),
        (Found(on_box(), BOX, OF_SPARE, OldSystem()), "OLD-UUID is not there"),
        (Found(on_box(), BOX, OF_SPARE, replace(OLD, noted=False)), "has no record"),
        (Found(on_box(), BOX, OF_SPARE, replace(OLD, boots=False)), "does not boot any more"),
        (Found(TWO_DISKS, BOX, OF_SPARE, OLD, wipe=True), "has more disks than /dev/vdb"),
        (Found(on_lvm(), BOX, OF_SPARE, OLD, wipe=True), "--wipe: the box's disk is not there"),
        (Found(on_lvm(), BOX, OF_LVM, wipe=True), "--wipe: no disk was added"),
        (Found(on_lvm(), BOX, replace(OF_LVM, kept="")), "had no room for it"),
        (Found(on_lvm(), BOX, replace(OF_LVM, kept="swi-I-s")), "more was changed than"),
        (Found(on_box(), BOX, OF_LVM), "does not run from volume group host-vg"),
    ],
)
def test_what_cannot_be_given_back_is_refused(found: Found, line: str) -> None:
    with pytest.raises(PreflightError, match=line):
        plan_way(found)


def test_a_host_without_a_record_is_told_why() -> None:
    assert "nothing to give back" in str(no_way(BARE))
    assert "made from an image" in str(no_way(BOX))
