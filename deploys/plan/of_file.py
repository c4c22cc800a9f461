"""Plan the volumes of a box in a file on the root that a host has; pure."""

from __future__ import annotations

from pathlib import PurePosixPath

from deploys.errors import PreflightError
from deploys.operations.root import COPIED, FILE, SUBFOLDER
from deploys.plan.of_firmware import check_firmware, plan_beside
from deploys.plan.refusals import ROOT_TYPES, boot_needed, check_own_volumes
from deploys.plan.result import Kind, VolumePlan, own_volume, planned_volume
from deploys.plan.sizes import (
    EXTENT,
    group_size,
    human,
    largest_root,
    least_root,
    needed_file,
    root_and_snapshot,
    round_up,
)
from deploys.plan.survey import Survey
from deploys.settings import GIB, Volumes, own_volumes

_FOLDER = PurePosixPath(FILE).parent
BOOT = f"{_FOLDER}/boot"
"""The folder on the old root that is the box's /boot: the old system's own stays as it is."""
OWN_BOOT = f"/boot/{SUBFOLDER}"
"""The same, where the host's /boot is a partition: GRUB can write there, whatever the root is."""
# What may lie between a disk and the root, from the disk up, and what a person calls it.
_LAYERS = {
    ("part",): "",
    ("part", "lvm"): " on LVM",
}
# On what may be the host's /boot.
_BOOT_TYPES = ("ext4",)


def plan_file(survey: Survey, volumes: Volumes, size: int | None) -> VolumePlan:
    """Plan the volumes of a box in a file on the host's root.

    Args:
        survey: the state of the host.
        volumes: the settings.
        size: bytes of the file; 0: as many as it needs; None: the same, and nobody asked for a
            file.

    Raises:
        PreflightError: the root cannot have such a file, or has no room for it.
    """
    if why := _fault(survey):
        raise unfit(survey, why, is_asked=size is not None)
    check_firmware(survey)
    check_own_volumes(survey, volumes.volgroup)
    found = survey.file
    if found.whole and not found.attached:
        raise PreflightError(
            f"{FILE} exists: the host runs on the root it had before it was a box: reboot it into "
            "the box, or remove the file to begin anew"
        )
    group = survey.lvm.group(volumes.volgroup)
    if group and {pv.device for pv in group.pvs} != {found.device if found.attached else ""}:
        devices = ", ".join(pv.device for pv in group.pvs)
        raise PreflightError(
            f"volume group {group.name} exists already (on {devices}): "
            "choose another name with --set volumes.volgroup=NAME"
        )
    least = least_root(survey.root.used - found.size, volumes)
    needed = needed_file(volumes.root_size or least, volumes)
    wanted = found.size if found.attached else round_up(size or needed, EXTENT)
    if wanted < needed:
        raise PreflightError(
            f"a file of {human(wanted)} is too small: the volumes need {human(needed)}"
        )
    if not found.attached:
        _check_room(survey, wanted)
    room = root_and_snapshot(group_size(wanted), volumes)
    root = volumes.root_size or (largest_root(room, volumes) if size else least)
    golden = group.lv(volumes.lvroot) if group else None
    source = survey.blocks.find(survey.root.source)
    own_boot = survey.mount("/boot")
    boot = survey.blocks.find((own_boot or survey.root).source)
    disks = (
        disk.path
        for mount in (survey.root, own_boot)
        if mount
        for disk in survey.blocks.disks_under(mount.source)
    )
    return VolumePlan(
        kind=Kind.FILE,
        volgroup=volumes.volgroup,
        lvroot=volumes.lvroot,
        lvsnap=volumes.lvsnap,
        lvsize=volumes.lvsize,
        boot_partition=OWN_BOOT if own_boot else BOOT,
        grub_disks=tuple(dict.fromkeys(disks)),
        volumes=(
            planned_volume(group, volumes.lvroot, round_up(root, EXTENT), ""),
            *(own_volume(group, row, volumes) for row in own_volumes.TABLE),
        ),
        device=found.device,
        old_root=survey.root.source,
        old_root_uuid=source.uuid if source else "",
        old_boot_uuid=boot.uuid if boot else "",
        copied=bool(golden and COPIED in golden.tags),
        efi=plan_beside(survey),
        file=FILE,
        file_size=0 if found.attached else wanted,
    )


def unfit(survey: Survey, why: str, *, is_asked: bool) -> PreflightError:
    """The error of a root that cannot have the file; ``is_asked``: the user wants one."""
    if is_asked:
        return PreflightError(f"the box cannot lie in a file on {survey.root.source}: {why}")
    root_lv = survey.root_lv
    group = survey.lvm.group(root_lv.vg) if root_lv else None
    lacks = (
        f"volume group {group.name} has {human(group.free)} free, too little for a box"
        if group
        else f"the root ({survey.root.source}) is not on LVM"
    )
    return PreflightError(
        f"{lacks}: name an empty disk with --device; the box cannot lie in a file on this root, as "
        f"{why}"
    )


def its_kind(survey: Survey) -> str:
    """The host's kind, as ``BIOS and ext4 on LVM with /boot of its own``."""
    boot = " with /boot of its own" if survey.mount("/boot") else ""
    firmware, fstype = survey.firmware.kind.upper(), survey.root.fstype
    return f"{firmware} and {fstype}{_LAYERS[_layers(survey)]}{boot}"


def _layers(survey: Survey) -> tuple[str, ...]:
    """The types of the devices between the root's disk and its filesystem."""
    below = survey.blocks.stack(survey.root.source)
    return tuple(each.type for each in below if each.type != "disk")


def _fault(survey: Survey) -> str:
    """Why a host is of no kind that was seen to boot from a file; empty if it is."""
    root = survey.root
    if root.fstype not in ROOT_TYPES:
        return f"its filesystem is {root.fstype}; it must be {' or '.join(ROOT_TYPES)}"
    if _layers(survey) not in _LAYERS or len(survey.blocks.disks_under(root.source)) != 1:
        return "it must be a partition of a disk, or a plain LV on one"
    if (boot := survey.mount("/boot")) and (
        boot.fstype not in _BOOT_TYPES
        or [each.type for each in survey.blocks.stack(boot.source)] != ["disk", "part"]
    ):
        types = " or ".join(_BOOT_TYPES)
        return f"/boot ({boot.source}) must be part of it, or a partition with {types}"
    for target in (str(_FOLDER), "/usr", "/etc", "/var", "/opt"):
        if mount := survey.mount(target):
            return f"{target} is a filesystem of its own ({mount.source})"
    if not survey.file.device:
        return "the host has no free loop device"
    hidden_by = survey.lvm_config.hides([survey.file.device])
    return f"{hidden_by} in lvm.conf hides {survey.file.device} from LVM" if hidden_by else ""


def _check_room(survey: Survey, size: int) -> None:
    """Check that the host keeps room beside the file and a copy of /boot, or has earlier ones."""
    root, room = survey.root, survey.root.avail + survey.file.size
    boot, kernels = survey.mount("/boot"), 2 * boot_needed(survey)
    if boot:
        copied = 0 if survey.file.size else max(boot.used, boot_needed(survey))
        kernels = copied + boot_needed(survey)
    if boot and boot.avail < kernels:
        raise PreflightError(
            f"/boot ({boot.source}) has {human(boot.avail)} free; the box's kernels and initrds "
            f"need {human(kernels)} there"
        )
    needed = size + (0 if boot else kernels) + max(GIB, root.size // 20)
    if room < needed:
        raise PreflightError(
            f"the root ({root.source}) has {human(room)} free; a box in a file of "
            f"{human(size)} needs {human(needed)}: name an empty disk with --device"
        )
