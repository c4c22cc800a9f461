"""From a survey of a host and the settings to the plan of its volumes; pure."""

from __future__ import annotations

from collections.abc import Sequence

from deploys.errors import PreflightError
from deploys.facts.lvm import KEPT, LogicalVolume, VolumeGroup
from deploys.operations.disks import (
    BIOS_BOOT,
    EFI_SYSTEM,
    LINUX,
    LINUX_LVM,
    Partition,
    partition_path,
)
from deploys.operations.root import COPIED
from deploys.plan.of_firmware import ESP_SIZE, plan_here, plan_spare
from deploys.plan.refusals import (
    boot_needed,
    check_boot,
    check_device,
    check_host,
    check_own_volumes,
    contents,
)
from deploys.plan.result import Kind, Volume, VolumePlan
from deploys.plan.sizes import (
    EXTENT,
    group_size,
    human,
    largest_root,
    needed_disk,
    root_and_snapshot,
    round_up,
    snapshot_size,
)
from deploys.plan.survey import Survey
from deploys.settings import GIB, MIB, Volumes, own_volumes
from deploys.settings.own_volumes import OwnVolume

_EXTENSION = (Partition("resnap-lvm", LINUX_LVM),)


def spare_layout(volumes: Volumes, esp_size: int = 0) -> tuple[Partition, ...]:
    """The partitions of a spare disk that a plain root moves to.

    Args:
        volumes: the settings.
        esp_size: bytes of the EFI system partition; 0: it has none.
    """
    return (
        Partition("resnap-bios", BIOS_BOOT, MIB),
        *((Partition("resnap-esp", EFI_SYSTEM, esp_size),) if esp_size else ()),
        Partition("resnap-boot", LINUX, round_up(volumes.boot_size, MIB)),
        Partition("resnap-lvm", LINUX_LVM),
    )


def plan_volumes(survey: Survey, volumes: Volumes, *, force: bool = False) -> VolumePlan:
    """Decide what kind of host this is and what makes it a box.

    Args:
        survey: what the host is, with the disk that the user named, if any.
        volumes: the settings.
        force: what that disk carries may be wiped.

    Raises:
        PreflightError: the host or the disk is not fit; one line, nothing was changed.
    """
    root_lv = survey.root_lv
    if root_lv is None:
        check_host(survey)
        return _plan_spare(survey, volumes, force)
    group = survey.lvm.group(root_lv.vg)
    assert group is not None
    if _is_box(root_lv, group, volumes):
        return _plan_box(survey, volumes, root_lv, group)
    check_host(survey)
    return _plan_lvm(survey, volumes, root_lv, group, force)


def _plan_spare(survey: Survey, volumes: Volumes, force: bool) -> VolumePlan:
    group = survey.lvm.group(volumes.volgroup)
    golden = group.lv(volumes.lvroot) if group else None
    copied = bool(golden and COPIED in golden.tags)
    if survey.device is None:
        if copied:
            raise PreflightError(
                "the host runs on the root it had before it was a box: reboot it into the box, "
                "or name the box's disk with --device to finish what broke off"
            )
        raise PreflightError(
            f"the root ({survey.root.source}) is not on LVM: name an empty disk with --device"
        )
    check_own_volumes(survey, volumes.volgroup)
    esp_size = ESP_SIZE if survey.firmware.kind == "uefi" else 0
    layout = spare_layout(volumes, esp_size)
    resumed = check_device(survey, layout, volumes.volgroup, force)
    disk = survey.disk
    assert disk is not None
    lvm_partition = partition_path(disk.path, len(layout))
    if group and not (resumed and {pv.device for pv in group.pvs} == {lvm_partition}):
        devices = ", ".join(pv.device for pv in group.pvs)
        raise PreflightError(
            f"volume group {group.name} exists already (on {devices}): "
            "choose another name with --set volumes.volgroup=NAME"
        )
    if volumes.boot_size < 2 * boot_needed(survey):
        raise PreflightError(
            f"volumes.boot_size {human(volumes.boot_size)} is too small: two kernels with their "
            f"initrds need {human(2 * boot_needed(survey))}"
        )
    root = _volume(group, volumes.lvroot, _spare_root(survey, volumes, group, esp_size), "")
    source = survey.blocks.find(survey.root.source)
    now = survey.mount("/boot") or survey.root
    old_disks = (d.path for d in survey.blocks.disks_under(now.source))
    done = resumed and group is not None
    return VolumePlan(
        kind=Kind.SPARE,
        volgroup=volumes.volgroup,
        lvroot=volumes.lvroot,
        lvsnap=volumes.lvsnap,
        lvsize=volumes.lvsize,
        boot_partition=partition_path(disk.path, len(layout) - 1),
        grub_disks=tuple(dict.fromkeys((disk.path, *old_disks))),
        volumes=(root, *(_own(group, row, volumes) for row in own_volumes.TABLE)),
        device=disk.path,
        layout=() if done and copied else layout,
        wipe=() if resumed else contents(survey),
        old_root=survey.root.source,
        old_root_uuid=source.uuid if source else "",
        copied=copied,
        efi=plan_spare(survey, disk.path, partition_path(disk.path, 2), 2),
    )


def _volume(group: VolumeGroup | None, name: str, size: int, fstype: str) -> Volume:
    existing = group.lv(name) if group else None
    return Volume(name, existing.size if existing else size, fstype, existing is not None)


def _own(group: VolumeGroup | None, row: OwnVolume, volumes: Volumes) -> Volume:
    extent = group.extent_size if group else EXTENT
    return _volume(group, row.name, round_up(row.size(volumes), extent), row.fstype)


def _spare_root(survey: Survey, volumes: Volumes, group: VolumeGroup | None, esp_size: int) -> int:
    existing = group.lv(volumes.lvroot) if group else None
    if existing:
        return existing.size
    disk, named = survey.disk, survey.device
    assert disk is not None
    assert named is not None
    least = round_up(max(survey.root.used * 13 // 10, GIB) + GIB, EXTENT)
    if volumes.root_size is not None and volumes.root_size < least:
        raise PreflightError(
            f"volumes.root_size {human(volumes.root_size)} is too small: the root in use needs "
            f"{human(least)}"
        )
    root = round_up(volumes.root_size or least, EXTENT)
    room = root_and_snapshot(group_size(disk.size, volumes.boot_size + esp_size), volumes)
    snapshot = snapshot_size(root, volumes)
    if not volumes.lvsize.endswith("%ORIGIN") and root < room < root + snapshot:
        raise PreflightError(
            f"volumes.lvsize {volumes.lvsize} is larger than the {human(room - root)} that "
            f"{named.asked} has free beside the root"
        )
    if root + snapshot > room:
        raise PreflightError(
            f"{named.asked} is too small: it has {human(disk.size)}, the volumes need "
            f"{human(needed_disk(root, volumes) + esp_size)}"
        )
    return root if volumes.root_size else largest_root(room, volumes)


def _plan_lvm(
    survey: Survey, volumes: Volumes, root: LogicalVolume, group: VolumeGroup, force: bool
) -> VolumePlan:
    if root.origin:
        raise PreflightError(f"the root is already a snapshot, of {group.name}/{root.origin}")
    boot = check_boot(survey)
    if existing := group.lv(volumes.lvsnap):
        raise PreflightError(
            f"{group.name}/{existing.name} exists and is no snapshot of the root: "
            "choose another name with --set volumes.lvsnap=NAME"
        )
    extends = survey.device is not None and not _has_device(survey, group)
    resumed = extends and check_device(survey, _EXTENSION, group.name, force)
    free, disk = group.free, survey.disk
    if extends:
        assert disk is not None
        free += (disk.size - 3 * MIB) // group.extent_size * group.extent_size
    own = tuple(_own(group, row, volumes) for row in own_volumes.mounted())
    check_own_volumes(survey, group.name)
    left = free - sum(volume.size for volume in own if not volume.exists)
    _check_room(group, free, left, snapshot_size(root.size, volumes), volumes, extends)
    return VolumePlan(
        kind=Kind.EXTEND if extends else Kind.LVM,
        volgroup=group.name,
        lvroot=root.name,
        lvsnap=volumes.lvsnap,
        lvsize=volumes.lvsize,
        boot_partition=boot,
        grub_disks=tuple(d.path for d in survey.blocks.disks_under(boot)),
        volumes=own,
        device=disk.path if extends and disk else "",
        layout=_EXTENSION if extends else (),
        wipe=contents(survey) if extends and not resumed else (),
        efi=plan_here(survey, boot),
    )


def _check_room(
    group: VolumeGroup,
    free: int,
    left: int,
    snapshot: int,
    volumes: Volumes,
    extends: bool,
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
    raise PreflightError(
        f"volume group {group.name} has {human(free)} free, the volumes need "
        f"{human(free - left + snapshot)}: name {hint}"
    )


def _has_device(survey: Survey, group: VolumeGroup) -> bool:
    disk = survey.disk
    on_disk = {device.path for device in disk.walk()} if disk else set()
    return any(pv.device in on_disk for pv in group.pvs)


def _is_box(root: LogicalVolume, group: VolumeGroup, volumes: Volumes) -> bool:
    if group.lv("persistent") is None:
        return False
    snapshot = group.lv(volumes.lvsnap)
    if snapshot and root.name in (snapshot.name, snapshot.origin):
        return bool(snapshot.origin)
    # golden, with the snapshot gone: it runs in maintenance
    return COPIED in root.tags


def _plan_box(
    survey: Survey, volumes: Volumes, root: LogicalVolume, group: VolumeGroup
) -> VolumePlan:
    if survey.device and not _has_device(survey, group):
        raise PreflightError(
            f"the host is a box already, and {survey.device.asked} is not part of it"
        )
    golden = group.lv(root.origin or root.name)
    assert golden is not None
    check_own_volumes(survey, group.name)
    own = tuple(
        _own(group, row, volumes)
        for row in own_volumes.mounted()
        if not (group.lv(row.name) and _is_named(survey, row))
    )
    _check_box_room(group, golden, own, volumes)
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
    """Whether fstab has the volume's mount point: that line is written when all else is done."""
    return any(
        line.split()[1:2] == [row.mount] for line in survey.fstab if line.lstrip()[:1] != "#"
    )


def _check_box_room(
    group: VolumeGroup, golden: LogicalVolume, own: Sequence[Volume], volumes: Volumes
) -> None:
    # The next reset takes the snapshot's room anew.
    snapshots = [lv for lv in group.lvs if lv.origin == golden.name]
    room = group.free + sum(lv.size for lv in snapshots)
    wanted = round_up(snapshot_size(golden.size, volumes), group.extent_size)
    if wanted > room:
        raise PreflightError(
            f"volumes.lvsize {volumes.lvsize} is larger than the {human(room)} that volume "
            f"group {group.name} has for the snapshot"
        )
    new = {volume.name: volume.size for volume in own if not volume.exists}
    # What goes for a reset, the versions, does not go for a volume that stays.
    room -= sum(lv.size for lv in snapshots if KEPT in lv.tags)
    lacking = wanted + sum(new.values()) - room
    if new and lacking > 0:
        keys = " ".join(f"volumes.{row.size_key}" for row in own_volumes.TABLE if row.name in new)
        raise PreflightError(
            f"this box does not have {' and '.join(new)} yet, and volume group {group.name} lacks "
            f"{human(lacking)} for that: choose a smaller {keys}"
        )
