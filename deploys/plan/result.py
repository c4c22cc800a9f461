"""The plan of a host's volumes, as it is shown to a person and then carried out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from deploys.facts.disks import Mount
from deploys.facts.lvm import VolumeGroup
from deploys.facts.mapper import mapper_path
from deploys.operations.disks import Partition, partition_path
from deploys.plan.of_firmware import EfiPlan
from deploys.plan.sizes import EXTENT, human, round_up
from deploys.settings import Volumes, own_volumes
from deploys.settings.own_volumes import OwnVolume


class Kind(Enum):
    """The kinds of host."""

    SPARE = "plain root, spare disk"
    LVM = "root on LVM with room"
    EXTEND = "root on LVM, extended by a disk"
    BOX = "a box already"


@dataclass(frozen=True)
class Volume:
    """An LV of the plan. ``size`` is in bytes; ``fstype`` is empty for the copied root."""

    name: str
    size: int
    fstype: str = ""
    exists: bool = False


def planned_volume(group: VolumeGroup | None, name: str, size: int, fstype: str) -> Volume:
    """A volume as it is in the VG already, or else with this size."""
    existing = group.lv(name) if group else None
    return Volume(name, existing.size if existing else size, fstype, existing is not None)


def own_volume(group: VolumeGroup | None, row: OwnVolume, volumes: Volumes) -> Volume:
    """One of the box's own volumes, as it is in the VG already, or else as the settings want it."""
    extent = group.extent_size if group else EXTENT
    return planned_volume(group, row.name, round_up(row.size(volumes), extent), row.fstype)


@dataclass(frozen=True)
class VolumePlan:
    """The volumes that a host is to have, and the steps to make them.

    What does not apply is empty. The names of VG, golden root and snapshot, and ``lvsize``, become
    arguments of the kernel: they are the host's, even if the settings have others.

    Attributes:
        boot_partition: that of /boot; empty if a box runs on its snapshot, without /boot.
        grub_disks: the whole disks that get GRUB.
        volumes: the golden root, if it is new, and the box's own volumes.
        device: the disk to partition.
        layout: its partitions; empty if it has them already.
        wipe: what the disk loses.
        old_root: the plain root, which stays as a way back; empty if the root is on LVM.
        old_boot_uuid: the filesystem with that root's /boot.
        before: bytes of the snapshot that keeps a root on LVM as it was; 0: there is no room.
        copied: the copy of the root is complete.
        efi: the plan for UEFI firmware; None for a box, and if BIOS started the host.
        lasting: filesystems of the host's own that no reset touches; it keeps them.
    """

    kind: Kind
    volgroup: str
    lvroot: str
    lvsnap: str
    lvsize: str
    boot_partition: str = ""
    grub_disks: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    device: str = ""
    layout: tuple[Partition, ...] = ()
    wipe: tuple[str, ...] = ()
    old_root: str = ""
    old_root_uuid: str = ""
    old_boot_uuid: str = ""
    before: int = 0
    copied: bool = False
    efi: EfiPlan | None = None
    lasting: tuple[Mount, ...] = ()

    @property
    def physical_volume(self) -> str:
        """The partition that becomes a PV: the last one of the disk."""
        return partition_path(self.device, len(self.layout)) if self.layout else ""

    def rows(self) -> list[tuple[str, str, str]]:
        """Operation, object and detail of each step that is left, in order."""
        rows = [("wipe", self.device, "; ".join(self.wipe))] if self.wipe else []
        if self.layout:
            rows += self._disk_rows()
        if self.kind in (Kind.LVM, Kind.EXTEND):
            kept = f"as {self.lvroot}_before, {human(self.before)}: unprovision goes back to it"
            lost = "no room to keep it as it is: unprovision cannot go back to it"
            rows.append(
                ("old root", f"{self.volgroup}/{self.lvroot}", kept if self.before else lost)
            )
        new = [volume for volume in self.volumes if not volume.exists]
        for volume in new:
            path = mapper_path(self.volgroup, volume.name)
            rows.append(("logical volume", f"{self.volgroup}/{volume.name}", human(volume.size)))
            if volume.fstype:
                rows.append(("filesystem", path, volume.fstype))
        if self.kind is Kind.SPARE and not self.copied:
            target = mapper_path(self.volgroup, self.lvroot)
            rows.append(("copy", self.old_root, f"/ to {target}, /boot to {self.boot_partition}"))
        else:
            names = [volume.name for volume in new]
            rows += [
                ("fstab", row.mount, mapper_path(self.volgroup, row.name))
                for row in own_volumes.mounted()
                if row.name in names
            ]
        if self.efi and not self.copied:
            rows += self.efi.rows()
        rows += [("keep", mount.target, f"{mount.source}, never reset") for mount in self.lasting]
        return rows

    def _disk_rows(self) -> list[tuple[str, str, str]]:
        parts = ", ".join(f"{p.label} {human(p.size) if p.size else 'rest'}" for p in self.layout)
        rows = [("partition", self.device, parts)]
        if self.kind is Kind.SPARE and self.efi:
            rows.append(("filesystem", self.efi.partition, "FAT for /boot/efi"))
        if self.kind is Kind.SPARE:
            rows.append(("filesystem", self.boot_partition, "ext4 for /boot"))
        verb = "volume group" if self.kind is Kind.SPARE else "extend volume group"
        rows.append(("physical volume", self.physical_volume, ""))
        rows.append((verb, self.volgroup, f"with {self.physical_volume}"))
        return rows
