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
    FILE = "plain root, box in a file on it"
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
        boot_partition: that of /boot; empty if a box runs on its snapshot, without /boot. For a box
            in a file, the folder of the old root that is the box's /boot.
        grub_disks: the whole disks that get GRUB.
        volumes: the golden root, if it is new, and the box's own volumes.
        device: the disk to partition, or the loop device of the file.
        layout: its partitions; empty if it has them already.
        wipe: what the disk loses.
        old_root: the plain root, which stays as a way back; empty if the root is on LVM.
        old_boot_uuid: the filesystem with that root's /boot.
        before: bytes of the snapshot that keeps a root on LVM as it was; 0: there is no room.
        copied: the copy of the root is complete.
        efi: the plan for UEFI firmware; None for a box, and if BIOS started the host.
        file: the file that the volume group lies in, on the old root; empty if it lies on a disk.
        file_size: its bytes; 0 if it is there already.
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
    file: str = ""
    file_size: int = 0
    lasting: tuple[Mount, ...] = ()

    @property
    def copies_root(self) -> bool:
        """Whether the running root is copied, and stays as a way back."""
        return self.kind in (Kind.SPARE, Kind.FILE)

    @property
    def physical_volume(self) -> str:
        """What becomes a PV: the last partition of the disk, or the loop device."""
        if self.kind is Kind.FILE:
            return self.device
        return partition_path(self.device, len(self.layout)) if self.layout else ""

    def rows(self) -> list[tuple[str, str, str]]:
        """Operation, object and detail of each step that is left, in order."""
        rows = [("wipe", self.device, "; ".join(self.wipe))] if self.wipe else []
        if self.file_size:
            size = f"{human(self.file_size)} on {self.old_root}, all of it allocated"
            rows.append(("file", self.file, size))
        if self.layout:
            rows += self._partition_rows()
        if pv := self.physical_volume:
            verb = "volume group" if self.copies_root else "extend volume group"
            rows.append(("physical volume", pv, f"on {self.file}" if self.file else ""))
            rows.append((verb, self.volgroup, f"with {pv}"))
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
        if self.copies_root and not self.copied:
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
        if self.kind is Kind.FILE:
            disks = self.grub_disks if self.efi is None else ()
            rows += [("boot loader", disk, "GRUB, starts the box") for disk in disks]
            rows.append(("keep", self.old_root, "the system as it is now, last in GRUB's menu"))
        rows += [("keep", mount.target, f"{mount.source}, never reset") for mount in self.lasting]
        return rows

    def _partition_rows(self) -> list[tuple[str, str, str]]:
        parts = ", ".join(f"{p.label} {human(p.size) if p.size else 'rest'}" for p in self.layout)
        rows = [("partition", self.device, parts)]
        if self.kind is Kind.SPARE and self.efi:
            rows.append(("filesystem", self.efi.partition, "FAT for /boot/efi"))
        if self.kind is Kind.SPARE:
            rows.append(("filesystem", self.boot_partition, "ext4 for /boot"))
        return rows
