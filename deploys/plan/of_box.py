"""Plan the volumes of a host that is a box already: those that it does not have yet; pure."""

from __future__ import annotations

from collections.abc import Sequence

from deploys.errors import PreflightError
from deploys.facts.lvm import BEFORE_TAG, VERSION_TAG, LogicalVolume, VolumeGroup
from deploys.operations.root import COPIED
from deploys.plan.refusals import check_own_volumes
from deploys.plan.result import Kind, Volume, VolumePlan, own_volume
from deploys.plan.sizes import human, round_up, snapshot_size
from deploys.plan.survey import Survey
from deploys.settings import Volumes, own_volumes
from deploys.settings.own_volumes import OwnVolume


def is_box(root: LogicalVolume, group: VolumeGroup, volumes: Volumes) -> bool:
    """Whether a host with this root, in this VG, is a box already."""
    if group.lv("persistent") is None:
        return False
    snapshot = group.lv(volumes.lvsnap)
    if snapshot and root.name in (snapshot.name, snapshot.origin):
        return bool(snapshot.origin)
    # In maintenance the snapshot may be gone; a golden root that was copied has a tag.
    return COPIED in root.tags


def plan_box(
    survey: Survey, volumes: Volumes, root: LogicalVolume, group: VolumeGroup
) -> VolumePlan:
    """Plan the volumes of a box.

    Raises:
        PreflightError: the box has no room for them, or the named disk is not its own.
    """
    if survey.device and not survey.has_part_of(group):
        raise PreflightError(
            f"the host is a box already, and {survey.device.name} is not part of it"
        )
    golden = group.lv(root.origin or root.name)
    assert golden is not None
    check_own_volumes(survey, group.name)
    own = tuple(
        own_volume(group, row, volumes)
        for row in own_volumes.mounted()
        if not (group.lv(row.name) and _is_named(survey, row))
    )
    _check_room(group, golden, own, volumes)
    boot = survey.mount("/boot")
    return VolumePlan(
        kind=Kind.BOX,
        volgroup=group.name,
        lvroot=golden.name,
        lvsnap=volumes.lvsnap,
        lvsize=volumes.lvsize,
        boot_partition=boot.source if boot else "",
        grub_disks=tuple(d.path for d in survey.blocks.disks_under(boot.source)) if boot else (),
        volumes=own,
    )


def _is_named(survey: Survey, row: OwnVolume) -> bool:
    """Whether fstab has the volume's mount point. The line is written when all else is done."""
    return any(
        line.split()[1:2] == [row.mount] for line in survey.fstab if line.lstrip()[:1] != "#"
    )


def _check_room(
    group: VolumeGroup, golden: LogicalVolume, own: Sequence[Volume], volumes: Volumes
) -> None:
    # The next reset removes these snapshots, so their room is free for it.
    snapshots = [lv for lv in group.lvs if lv.origin == golden.name and BEFORE_TAG not in lv.tags]
    room = group.free + sum(lv.size for lv in snapshots)
    wanted = round_up(snapshot_size(golden.size, volumes), group.extent_size)
    if wanted > room:
        raise PreflightError(
            f"volumes.lvsize {volumes.lvsize} is larger than the {human(room)} that volume "
            f"group {group.name} has for the snapshot"
        )
    new = {volume.name: volume.size for volume in own if not volume.exists}
    # A reset may remove a version to make room. A new volume may not.
    room -= sum(lv.size for lv in snapshots if VERSION_TAG in lv.tags)
    lacking = wanted + sum(new.values()) - room
    if new and lacking > 0:
        keys = " ".join(f"volumes.{row.size_key}" for row in own_volumes.TABLE if row.name in new)
        raise PreflightError(
            f"this box does not have {' and '.join(new)} yet, and volume group {group.name} lacks "
            f"{human(lacking)} for that: choose a smaller {keys}"
        )
