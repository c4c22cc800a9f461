"""Refuse, in one line each, hosts and disks that must not be changed."""

from __future__ import annotations

from collections.abc import Sequence

from deploys.errors import PreflightError
from deploys.facts.disks import BlockDevice
from deploys.facts.lvm import MISSING
from deploys.facts.mapper import mapper_path
from deploys.operations.disks import Partition, has_layout, partition_path
from deploys.plan.of_firmware import check_firmware
from deploys.plan.sizes import human
from deploys.plan.survey import Survey
from deploys.settings import MIB, Volumes, own_volumes

ROOT_TYPES = ("ext4", "xfs")
_PLAIN_LAYOUTS = ("linear", "striped")
# These must be on the root, as a reset would leave a filesystem of its own as it is.
_PART_OF_ROOT = ("/usr", "/etc", "/var", "/opt")


def check_host(survey: Survey) -> None:
    """Check what every kind of host needs: its firmware and its root.

    Raises:
        PreflightError: it cannot become a box.
    """
    root = survey.root
    check_firmware(survey)
    if root.fstype not in ROOT_TYPES:
        wanted = " or ".join(ROOT_TYPES)
        raise PreflightError(f"the root filesystem is {root.fstype}; it must be {wanted}")
    for below in survey.blocks.stack(root.source):
        if below.type not in ("disk", "part", "lvm", "loop"):
            raise PreflightError(f"the root lies on {below.path} ({below.type}): not supported")
    for target in _PART_OF_ROOT:
        if mount := survey.mount(target):
            raise PreflightError(
                f"{target} is a filesystem of its own ({mount.source}): a reset would not reach it"
            )
    root_lv = survey.root_lv
    if root_lv and not set(root_lv.layout.split(",")) & set(_PLAIN_LAYOUTS):
        raise PreflightError(f"the root LV is {root_lv.layout}; only a plain one can be reset")


def check_names(volumes: Volumes, root: str) -> None:
    """Check that no two of a box's volumes have one name; ``root`` is the golden root's.

    Raises:
        PreflightError: two have. A reset removes what has the snapshot's name.
    """
    taken = [root, f"{root}_safety", f"{root}_before", *(row.name for row in own_volumes.TABLE)]
    for number, name in enumerate(taken):
        if name == volumes.lvsnap:
            raise PreflightError(f"volumes.lvsnap {name}: another volume of a box has this name")
        if name in taken[:number]:
            raise PreflightError(f"volumes.lvroot {name}: another volume of a box has this name")


def check_clones(survey: Survey) -> None:
    """Check that each physical volume is there once: LVM would take one of two, now or later.

    Raises:
        PreflightError: a disk is a clone of another.
    """
    found: dict[str, str] = {}
    for disk in survey.blocks.disks:
        for device in disk.walk():
            if device.fstype != "LVM2_member" or not device.uuid:
                continue
            other = found.setdefault(device.uuid, device.path)
            if other != device.path:
                raise PreflightError(
                    f"{other} and {device.path} have the same physical volume, as a disk and its "
                    "clone do: detach the clone"
                )


def check_sight(survey: Survey) -> None:
    """Check that LVM sees the volume group that the root is in, and all of it.

    Raises:
        PreflightError: it does not; a reset would find as little.
    """
    source, root_lv = survey.root.source, survey.root_lv
    device = survey.blocks.find(source)
    if root_lv is None and device and device.type == "lvm":
        raise PreflightError(
            f"LVM does not show the root's volume {source}: a filter in lvm.conf or the devices "
            "file hides its disk (see lvmconfig devices/filter devices/global_filter, lvmdevices)"
        )
    group = survey.lvm.group(root_lv.vg) if root_lv else None
    if group and any(pv.device == MISSING for pv in group.pvs):
        raise PreflightError(
            f"volume group {group.name} lacks a physical volume: its disk is gone, or a filter in "
            "lvm.conf or the devices file hides it"
        )


def _check_hidden(survey: Survey, disk: BlockDevice, number: int) -> None:
    """Check that LVM will see the partition of this number."""
    assert survey.device is not None
    partition = partition_path(disk.path, number)
    # A link below /dev/block has a number, which the partition does not have yet.
    links = (
        link if link.startswith("/dev/block/") else f"{link}-part{number}"
        for link in survey.device.links
    )
    names = (partition, *links)
    if hidden_by := survey.lvm_config.hides(names):
        raise PreflightError(
            f"LVM would not see {partition}: {hidden_by} in lvm.conf hides it; have that accept "
            f"{disk.path} first (lvmconfig devices/{hidden_by} shows it)"
        )


def check_own_volumes(survey: Survey, group: str) -> None:
    """Check that the box's own volumes can be made in this VG and mounted.

    Raises:
        PreflightError: one is in use elsewhere, or something else is mounted at its mount point.
    """
    for row in own_volumes.mounted():
        path = mapper_path(group, row.name)
        device = survey.blocks.find(path)
        elsewhere = [at for at in device.mountpoints if at != row.mount] if device else []
        if elsewhere:
            raise PreflightError(f"{group}/{row.name} exists and is in use on {elsewhere[0]}")
        mount = survey.mount(row.mount)
        if mount and mount.source != path:
            raise PreflightError(
                f"{row.mount} is a filesystem already ({mount.source}): a box has {path} there"
            )


def boot_needed(survey: Survey) -> int:
    """Bytes that a second kernel and its initrd need in ``/boot``, beside the first."""
    return 2 * survey.kernel or 120 * MIB


def check_boot(survey: Survey) -> str:
    """Check ``/boot`` on a host that keeps it, and return its partition.

    Raises:
        PreflightError: ``/boot`` is no partition of its own, is FAT, or has no room for a second
            kernel.
    """
    boot = survey.mount("/boot")
    if boot is None:
        raise PreflightError(
            "/boot is not a partition of its own: GRUB cannot write its environment on LVM"
        )
    device = survey.blocks.find(boot.source)
    if device is None or device.type != "part":
        raise PreflightError(f"/boot ({boot.source}) must be a plain partition, for GRUB to write")
    if boot.fstype == "vfat":
        raise PreflightError(
            f"/boot ({boot.source}) is the EFI system partition: make /boot a partition of "
            "its own, as packages cannot be unpacked on FAT"
        )
    if boot.avail < boot_needed(survey):
        raise PreflightError(
            f"/boot has {human(boot.avail)} free; a second kernel and initrd need "
            f"{human(boot_needed(survey))}"
        )
    return boot.source


def check_device(survey: Survey, layout: Sequence[Partition], group: str, force: bool) -> bool:
    """Check the disk that the user named. True if an earlier run has partitioned it already.

    Args:
        survey: the state of the host.
        layout: the partitions that the disk is to get.
        group: the VG that may be on it already.
        force: the disk may be wiped.

    Raises:
        PreflightError: it is no whole disk, or it is in use, or it is not empty and ``force`` is
            not set.
    """
    named = survey.device
    assert named is not None
    if not named.path:
        raise PreflightError(f"{named.name} does not exist on the host")
    disk = survey.disk
    if disk is None:
        raise PreflightError(f"{named.name} is not a disk")
    if disk.type != "disk":
        kind = "partition" if disk.type == "part" else disk.type
        raise PreflightError(f"{named.name} is a {kind}; name a whole disk")
    if disk.ro:
        raise PreflightError(f"{named.name} is read-only")
    if disk in survey.blocks.disks_under(survey.root.source):
        raise PreflightError(f"{named.name} is the disk that the host runs from")
    _check_hidden(survey, disk, len(layout))
    ours = has_layout(disk, layout) and not _is_left(survey, disk)
    _check_unused(survey, disk, group if ours else None)
    content = contents(survey)
    if content and not ours and not force:
        raise PreflightError(f"{named.name} carries {'; '.join(content)}: --force wipes it")
    return ours


def _is_left(survey: Survey, disk: BlockDevice) -> bool:
    """Whether the disk is of a box that was given back: then the host's LVM went with it."""
    members = (device.path for device in disk.walk() if device.fstype == "LVM2_member")
    return any(survey.lvm.pv(path) is None for path in members)


def _check_unused(survey: Survey, disk: BlockDevice, own_group: str | None) -> None:
    assert survey.device is not None
    name = survey.device.name
    for device in disk.walk():
        if device.mountpoints:
            raise PreflightError(f"{name} is in use: {device.path} on {device.mountpoints[0]}")
    for device in disk.walk():
        pv = survey.lvm.pv(device.path)
        if pv and pv.vg and pv.vg != own_group:
            raise PreflightError(f"{name} is in volume group {pv.vg} ({device.path})")
    for device in disk.walk():
        if device.type not in (disk.type, "part") and own_group is None:
            raise PreflightError(f"{name} is in use by {device.path} ({device.type})")


def contents(survey: Survey) -> tuple[str, ...]:
    """Lines that tell a person what is on the named disk and its partitions."""
    disk = survey.disk
    if disk is None or survey.device is None:
        return ()
    on_disk = survey.device.signatures or tuple(filter(None, (disk.fstype, disk.pttype)))
    below = (d for child in disk.children for d in child.walk())
    on_parts = tuple(f"{d.fstype} on {d.path}" for d in below if d.fstype)
    empty_parts = not on_parts and bool(disk.children)
    parts = (f"{len(disk.children)} partitions",) if empty_parts else ()
    return (*((f"{' and '.join(on_disk)} on {disk.path}",) if on_disk else ()), *on_parts, *parts)
