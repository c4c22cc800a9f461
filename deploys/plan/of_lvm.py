"""Plan the volumes of a host whose root is on LVM; its volume group may get a disk more; pure."""

from __future__ import annotations

from deploys.errors import NoRoomError, PreflightError
from deploys.facts.lvm import BEFORE_TAG, LogicalVolume, VolumeGroup, cow_size
from deploys.operations.disks import LINUX_LVM, LVM_LABEL, Partition
from deploys.plan.of_firmware import plan_here
from deploys.plan.refusals import (
    boot_needed,
    check_boot,
    check_device,
    check_own_volumes,
    contents,
)
from deploys.plan.result import Kind, VolumePlan, own_volume
from deploys.plan.sizes import human, round_up, snapshot_size
from deploys.plan.survey import Survey
from deploys.settings import KIB, MIB, Volumes, own_volumes

_EXTENSION = (Partition(LVM_LABEL, LINUX_LVM),)
# The snapshot of the root as it is must hold what a first provision changes. It leaves room for the
# trials of later changes, and for a version.
_LEAST_BEFORE, _LEAVE = 512 * MIB, 512 * MIB


def plan_lvm(
    survey: Survey, volumes: Volumes, root: LogicalVolume, group: VolumeGroup, force: bool
) -> VolumePlan:
    """Plan the volumes beside a root that is on LVM.

    Raises:
        NoRoomError: the VG has no room for them.
        PreflightError: the named disk or the host is not fit.
    """
    if root.origin:
        raise PreflightError(f"the root is already a snapshot, of {group.name}/{root.origin}")
    boot = check_boot(survey)
    if existing := group.lv(volumes.lvsnap):
        raise PreflightError(
            f"{group.name}/{existing.name} exists and is no snapshot of the root: "
            "choose another name with --set volumes.lvsnap=NAME"
        )
    extends = survey.device is not None and not survey.has_part_of(group)
    resumed = extends and check_device(survey, _EXTENSION, group.name, force)
    free, disk = group.free, survey.disk
    if extends:
        assert disk is not None
        free += (disk.size - 3 * MIB) // group.extent_size * group.extent_size
    own = tuple(own_volume(group, row, volumes) for row in own_volumes.mounted())
    check_own_volumes(survey, group.name)
    left = free - sum(volume.size for volume in own if not volume.exists)
    snapshot = snapshot_size(root.size, volumes)
    _check_room(group, free, left, snapshot, volumes, extends)
    return VolumePlan(
        kind=Kind.EXTEND if extends else Kind.LVM,
        volgroup=group.name,
        lvroot=root.name,
        lvsnap=volumes.lvsnap,
        lvsize=volumes.lvsize,
        boot_partition=boot,
        grub_disks=tuple(d.path for d in survey.blocks.disks_under(boot)),
        volumes=own,
        before=_before(survey, group, root, left - snapshot),
        device=disk.path if extends and disk else "",
        layout=_EXTENSION if extends else (),
        wipe=contents(survey) if extends and not resumed else (),
        efi=plan_here(survey, boot),
    )


def _before(survey: Survey, group: VolumeGroup, root: LogicalVolume, room: int) -> int:
    """Bytes of the snapshot that keeps the root as it is; 0 if VG or /boot lack the room.

    /boot keeps its old initrds beside the new ones.
    """
    kept = group.lv(f"{root.name}_before")
    if kept and BEFORE_TAG in kept.tags:
        return kept.size  # by a first provision that broke off
    boot = survey.mount("/boot")
    size = min(cow_size(root.size, 64 * KIB, group.extent_size), room - _LEAVE)
    has_room = boot is not None and boot.avail >= boot_needed(survey) + survey.kernel
    return (
        size // group.extent_size * group.extent_size if has_room and size >= _LEAST_BEFORE else 0
    )


def _check_room(
    group: VolumeGroup, free: int, left: int, snapshot: int, volumes: Volumes, extends: bool
) -> None:
    snapshot = round_up(snapshot, group.extent_size)
    if snapshot <= left:
        return
    if not volumes.lvsize.endswith("%ORIGIN") and left > 0:
        raise PreflightError(
            f"volumes.lvsize {volumes.lvsize} is larger than the {human(left)} that volume "
            f"group {group.name} has free"
        )
    hint = "a larger disk with --device" if extends else "an empty disk with --device"
    raise NoRoomError(
        f"volume group {group.name} has {human(free)} free, the volumes need "
        f"{human(free - left + snapshot)}: name {hint}"
    )
