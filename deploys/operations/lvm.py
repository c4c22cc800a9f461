"""Make physical volumes, volume groups, logical volumes and the safety snapshot.

Only snapshots of the golden root are removed, and nothing is shrunk.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.disks import BlockDevices
from deploys.facts.lvm import Lvm, VolumeGroup, cow_size
from deploys.operations import Commands
from deploys.settings import KIB, MIB

_SAFETY_CHUNK = 64 * KIB
# Bytes that a group must have left for the snapshot of a trial, which runs for minutes.
_TRIAL_ROOM = 256 * MIB

# The partition is found by UUID, as this erases it, and disks change their names. wipefs refuses a
# partition that is mounted. If there is none, an earlier run erased it.
_RECLAIM = """
set -eu
uuid=$1 group=$2
partition=$(blkid -U "$uuid") || exit 0
wipefs --all "$partition"
vgextend --yes "$group" "$partition"
"""


@operation()
def physical_volume(device: str) -> Commands:
    """Make a block device a PV.

    Raises:
        OperationError: the device carries something else.
    """
    found = host.get_fact(BlockDevices).find(device)
    if host.get_fact(Lvm).pv(device):
        host.noop(f"{device} is already a physical volume")
        return
    if found and (found.fstype or found.pttype):
        raise OperationError(f"{device} carries {found.fstype or found.pttype}")
    # No --yes, by which pvcreate would wipe what it finds.
    yield StringCommand("pvcreate", QuoteString(device))


@operation()
def volume_group(group: str, devices: Sequence[str]) -> Commands:
    """Make a VG from PVs.

    Raises:
        OperationError: there is a group of this name, and it lacks one of the devices.
    """
    existing = host.get_fact(Lvm).group(group)
    if existing is None:
        yield StringCommand("vgcreate", QuoteString(group), *map(QuoteString, devices))
        return
    if not set(devices) <= {pv.device for pv in existing.pvs}:
        raise OperationError(f"volume group {group} exists on other devices")
    host.noop(f"volume group {group} already exists")


@operation()
def extend_volume_group(group: str, devices: Sequence[str]) -> Commands:
    """Add PVs to a VG.

    Raises:
        OperationError: one of them is in another group.
    """
    report = host.get_fact(Lvm)
    owners = {device: pv.vg for device in devices if (pv := report.pv(device))}
    for device, owner in owners.items():
        if owner not in ("", group):
            raise OperationError(f"{device} is in volume group {owner}")
    missing = [device for device in devices if owners.get(device) != group]
    if missing:
        yield StringCommand("vgextend", QuoteString(group), *map(QuoteString, missing))
    else:
        host.noop(f"volume group {group} already has {' '.join(devices)}")


@operation()
def logical_volume(group: str, volume: str, size: int | str, activate: bool = True) -> Commands:
    """Make an LV.

    Args:
        group: its VG.
        volume: its name.
        size: bytes, rounded up to extents; or a share as in lvcreate(8): ``100%FREE``.
        activate: make its device node, for which the kernel needs device-mapper.

    Raises:
        OperationError: it exists and is smaller than ``size``.
    """
    existing_group = host.get_fact(Lvm).group(group)
    existing = existing_group.lv(volume) if existing_group else None
    if existing is None:
        amount = ("--size", f"{size}b") if isinstance(size, int) else ("--extents", size)
        wipe = ("--wipesignatures", "y", "--zero", "y")
        without_node = ("--activate", "n", "--wipesignatures", "n", "--zero", "n")
        yield StringCommand(
            "lvcreate --yes --name",
            QuoteString(volume),
            *amount,
            *(wipe if activate else without_node),
            QuoteString(group),
        )
        return
    if isinstance(size, int) and existing.size < size:
        raise OperationError(f"{group}/{volume} has {existing.size} bytes, not {size}")
    host.noop(f"logical volume {group}/{volume} already exists")


@operation()
def safety_snapshot(group: str, lvroot: str, lvsnap: str, leave: int = 0) -> Commands:
    """Take a snapshot of the golden root, under the name by which the reset knows it.

    The snapshot that the box runs on at other times goes: the next boot takes it anew.

    Args:
        group: the VG.
        lvroot: the golden root.
        lvsnap: the snapshot that goes.
        leave: bytes to leave free for the volumes that the change makes.
    """
    report = host.get_fact(Lvm).group(group)
    name = f"{lvroot}_safety"
    left = report.lv(name) if report else None
    if left and left.origin:
        return  # it is from a change that broke off, and holds the good root before that
    if left:
        # The power went before it became a snapshot.
        yield StringCommand("lvremove", "--yes", f"{group}/{name}")
    if report and report.lv(lvsnap):
        # Its room is for the safety snapshot.
        yield StringCommand("lvremove", "--yes", f"{group}/{lvsnap}")
    extents = _safety_extents(report, lvroot, lvsnap, leave)
    yield StringCommand(
        f"lvcreate --yes --snapshot --chunksize {_SAFETY_CHUNK // KIB}K --extents {extents}",
        f"--name {name} {group}/{lvroot}",
    )


@operation()
def reclaim_partition(uuid: str, group: str) -> Commands:
    """Erase the partition with the filesystem ``uuid`` and extend the VG ``group`` with it."""
    yield StringCommand(shlex.join(("sh", "-c", _RECLAIM, "reclaim", uuid, group)))


def _safety_extents(report: VolumeGroup | None, lvroot: str, lvsnap: str, leave: int) -> str:
    """Enough extents that the snapshot cannot fill, or as many as leave room for a trial's."""
    root = report.lv(lvroot) if report else None
    if report is None or root is None:
        return "100%ORIGIN"
    snapshot = report.lv(lvsnap)
    room = report.free + (snapshot.size if snapshot else 0) - _TRIAL_ROOM - leave
    most = cow_size(root.size, _SAFETY_CHUNK, report.extent_size)
    if room < min(most, _TRIAL_ROOM):
        return "100%ORIGIN"  # LVM refuses this, as there is no room
    return str(min(most, room) // report.extent_size)
