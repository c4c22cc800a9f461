"""Plan the volumes of a host with a plain root, which is copied to a spare disk; pure."""

from __future__ import annotations

from deploys.errors import PreflightError
from deploys.facts.lvm import VolumeGroup
from deploys.operations.disks import (
    BIOS_BOOT,
    BOOT_LABEL,
    EFI_SYSTEM,
    LINUX,
    LINUX_LVM,
    LVM_LABEL,
    Partition,
    partition_path,
)
from deploys.operations.root import COPIED
from deploys.plan import of_firmware
from deploys.plan.refusals import boot_needed, check_device, check_own_volumes, contents
from deploys.plan.result import Kind, VolumePlan, own_volume, planned_volume
from deploys.plan.sizes import (
    EXTENT,
    group_size,
    human,
    largest_root,
    least_root,
    needed_disk,
    root_and_snapshot,
    round_up,
    snapshot_size,
)
from deploys.plan.survey import Survey
from deploys.settings import MIB, Volumes, own_volumes


def spare_layout(volumes: Volumes, esp_size: int = 0) -> tuple[Partition, ...]:
    """The partitions of a spare disk to which a plain root is copied.

    Args:
        volumes: the settings.
        esp_size: bytes of the EFI system partition; with 0 there is none.
    """
    return (
        Partition("resnap-bios", BIOS_BOOT, MIB),
        *((Partition("resnap-esp", EFI_SYSTEM, esp_size),) if esp_size else ()),
        Partition(BOOT_LABEL, LINUX, round_up(volumes.boot_size, MIB)),
        Partition(LVM_LABEL, LINUX_LVM),
    )


def plan_spare(survey: Survey, volumes: Volumes, force: bool) -> VolumePlan:
    """Plan the volumes of a host with a plain root on the disk that the user named.

    Raises:
        PreflightError: there is no such disk, it is not fit, or it has no room for them.
    """
    group = survey.lvm.group(volumes.volgroup)
    golden = group.lv(volumes.lvroot) if group else None
    copied = bool(golden and COPIED in golden.tags)
    if survey.device is None:
        if copied:
            raise PreflightError(
                "the host runs on the root it had before it was a box: reboot it into the box, "
                "or name the box's disk with --device to finish what broke off"
            )
        unused = " or ".join(survey.spare_disks)
        raise PreflightError(
            f"the root ({survey.root.source}) is not on LVM: name an empty disk with --device"
            f"{f' ({unused} is not in use)' if unused else ''}, or say --in-file"
        )
    check_own_volumes(survey, volumes.volgroup)
    esp_size = of_firmware.ESP_SIZE if survey.firmware.kind == "uefi" else 0
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
    root = planned_volume(group, volumes.lvroot, _spare_root(survey, volumes, group, esp_size), "")
    source = survey.blocks.find(survey.root.source)
    now = survey.mount("/boot") or survey.root
    boot = survey.blocks.find(now.source)
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
        volumes=(root, *(own_volume(group, row, volumes) for row in own_volumes.TABLE)),
        device=disk.path,
        layout=() if done and copied else layout,
        wipe=() if resumed else contents(survey),
        old_root=survey.root.source,
        old_root_uuid=source.uuid if source else "",
        old_boot_uuid=boot.uuid if boot else "",
        copied=copied,
        efi=of_firmware.plan_spare(survey, disk.path, partition_path(disk.path, 2), 2),
    )


def _spare_root(survey: Survey, volumes: Volumes, group: VolumeGroup | None, esp_size: int) -> int:
    existing = group.lv(volumes.lvroot) if group else None
    if existing:
        return existing.size
    disk, named = survey.disk, survey.device
    assert disk is not None
    assert named is not None
    least = least_root(survey.root.used, volumes)
    root = round_up(volumes.root_size or least, EXTENT)
    room = root_and_snapshot(group_size(disk.size, volumes.boot_size + esp_size), volumes)
    snapshot = snapshot_size(root, volumes)
    if not volumes.lvsize.endswith("%ORIGIN") and root < room < root + snapshot:
        raise PreflightError(
            f"volumes.lvsize {volumes.lvsize} is larger than the {human(room - root)} that "
            f"{named.name} has free beside the root"
        )
    if root + snapshot > room:
        raise PreflightError(
            f"{named.name} is too small: it has {human(disk.size)}, the volumes need "
            f"{human(needed_disk(root, volumes) + esp_size)}"
        )
    return root if volumes.root_size else largest_root(room, volumes)
