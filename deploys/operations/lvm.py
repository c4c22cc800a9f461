"""Make physical volumes, volume groups and logical volumes; none is ever shrunk or removed."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.disks import BlockDevices
from deploys.facts.lvm import Lvm

Commands = Generator[StringCommand, None, None]


@operation()
def physical_volume(device: str) -> Commands:
    """Make a block device a PV.

    Raises:
        OperationError: it carries something else.
    """
    found = host.get_fact(BlockDevices).find(device)
    if host.get_fact(Lvm).pv(device):
        host.noop(f"{device} is already a physical volume")
        return
    if found and (found.fstype or found.pttype):
        raise OperationError(f"{device} carries {found.fstype or found.pttype}")
    # no --yes: what pvcreate would ask about is not ours to wipe
    yield StringCommand("pvcreate", QuoteString(device))


@operation()
def volume_group(group: str, devices: Sequence[str]) -> Commands:
    """Make a VG of PVs.

    Raises:
        OperationError: the name is taken by a group that has none of these devices.
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
        OperationError: another group has one of them.
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
        group: the VG it lies in.
        volume: its name.
        size: bytes, rounded up to extents; or a share as lvcreate(8) writes it, ``100%FREE``.
        activate: make its device node; without device-mapper (an image being built) it cannot.

    Raises:
        OperationError: it exists and is smaller than asked.
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


# By UUID and not by name: disks change their names, and this erases one. A partition that is
# mounted is refused by wipefs itself. One that is not there was erased before.
_SCRIPT = """
set -eu
uuid=$1 group=$2
partition=$(blkid -U "$uuid") || exit 0
wipefs --all "$partition"
vgextend --yes "$group" "$partition"
"""


@operation()
def reclaim_partition(uuid: str, group: str) -> Generator[StringCommand, None, None]:
    """Erase the partition with the filesystem ``uuid`` and extend the VG ``group`` with it."""
    yield StringCommand(shlex.join(("sh", "-c", _SCRIPT, "reclaim", uuid, group)))
