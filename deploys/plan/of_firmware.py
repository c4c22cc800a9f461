"""What UEFI firmware is to find, on the disk of a box or of the host that becomes one; pure."""

from __future__ import annotations

from dataclasses import dataclass

from deploys.errors import PreflightError
from deploys.facts.disks import BlockDevice
from deploys.facts.firmware import EspContent
from deploys.plan.sizes import human
from deploys.plan.survey import Survey
from deploys.settings import MIB

# FAT32, which the specification wants on a disk that stays, begins here with sectors of 4 KiB.
ESP_SIZE = 260 * MIB
LOADER = "pipeline"
"""The folder of a box's own loader below ``EFI``, and the name of its boot entry."""
_SHIM, _GRUB = "shimx64.efi", "grubx64.efi"
_BESIDE_SHIM = (_GRUB, "mmx64.efi", "grub.cfg")
_MARGIN = MIB  # FAT rounds each file up, and a folder takes some


@dataclass(frozen=True)
class EfiPlan:
    """The partition that the firmware starts the box from, and what it is to get.

    ``loader`` is the folder below ``EFI`` that has GRUB. ``removable`` says that the removable
    path is to become a copy of it. ``disk`` is set where the partition is new and on a disk of its
    own: GRUB is installed there, and ``entry`` says that the firmware's variables can take a boot
    entry. ``old`` is then the partition that started the host so far, if it has a removable path.
    """

    partition: str
    loader: str = LOADER
    removable: bool = True
    disk: str = ""
    number: int = 0
    entry: bool = False
    old: str = ""

    @property
    def lacks_removable(self) -> bool:
        """Whether the host's own partition is to get the removable path."""
        return self.removable and not self.disk

    def rows(self) -> list[tuple[str, str, str]]:
        """Operation, object and detail of each thing that is to be done, in order."""
        if self.lacks_removable:
            return [("boot loader", self.partition, f"EFI/BOOT, a copy of EFI/{self.loader}")]
        if not self.disk:
            return []
        rows = [("boot loader", self.partition, f"EFI/{self.loader} and EFI/BOOT")]
        if self.old:
            rows.append(("rename", self.old, "EFI/BOOT/BOOTX64.EFI to BOOTX64.OLD"))
        said = f"to {self.partition}, the first" if self.entry else "none: NVRAM is not writable"
        return [*rows, ("boot entry", self.loader, said)]


def check_firmware(survey: Survey) -> None:
    """What must hold of firmware, whatever the kind of host.

    The signed chain of Debian and Ubuntu takes a box through Secure Boot as it takes any host:
    GRUB and the kernel are verified; settings and initrds, which are all that is ours, are not.

    Raises:
        PreflightError: it does not.
    """
    firmware = survey.firmware
    if firmware.bits != 64:
        raise PreflightError(f"the host's UEFI firmware has {firmware.bits} bits; it must have 64")
    if firmware.secure_boot and not firmware.signed:
        raise PreflightError(
            "Secure Boot is on, and the signed loader is not installed: install "
            "grub-efi-amd64-signed and shim-signed, or turn Secure Boot off"
        )


def plan_spare(survey: Survey, disk: str, partition: str, number: int) -> EfiPlan | None:
    """For a root that moves to ``disk``, whose ``partition`` has this ``number``; None for BIOS.

    Raises:
        PreflightError: the host's own EFI system partition cannot be told.
    """
    if survey.firmware.kind != "uefi":
        return None
    own = _own_esp(survey)
    return EfiPlan(
        partition,
        disk=disk,
        number=number,
        entry=survey.firmware.writable,
        old=own.path if own and survey.esps[own.path].has_removable else "",
    )


def plan_here(survey: Survey, boot: str) -> EfiPlan | None:
    """For a host that keeps its disks; ``boot`` is the partition of /boot. None for BIOS.

    Raises:
        PreflightError: what the firmware starts is no GRUB that reads this ``/boot``, or its
            partition has no room for the removable path.
    """
    if survey.firmware.kind != "uefi":
        return None
    if not survey.firmware.grub:
        raise PreflightError(
            "the host started by UEFI, and not by GRUB: /boot/grub/x86_64-efi is missing"
        )
    own = _own_esp(survey)
    if own is None:
        raise PreflightError("the host started by UEFI, but its disks have no EFI system partition")
    content = survey.esps[own.path]
    device = survey.blocks.find(boot)
    if content.reads and device and device.uuid not in content.reads:
        raise PreflightError(f"GRUB on {own.path} does not read /boot ({boot}, {device.uuid})")
    if content.has_removable:
        return EfiPlan(own.path, removable=False)
    loader = _loader(own.path, content)
    needed = _size(content, loader) + _MARGIN
    if content.free < needed:
        raise PreflightError(
            f"{own.path} has {human(content.free)} free; a loader at its removable path needs "
            f"{human(needed)}"
        )
    return EfiPlan(own.path, loader)


def _own_esp(survey: Survey) -> BlockDevice | None:
    found = survey.efi_partitions
    if len(found) > 1:
        names = ", ".join(device.path for device in found)
        raise PreflightError(
            f"the host has several EFI system partitions ({names}): mount the one that it starts "
            "from at /boot/efi"
        )
    return found[0] if found else None


def _loader(partition: str, content: EspContent) -> str:
    """The one folder below ``EFI`` that has GRUB."""
    folders = [path.partition("/")[0] for path in content.files if path.endswith(f"/{_GRUB}")]
    if len(folders) != 1:
        said = f"several GRUBs ({', '.join(sorted(folders))})" if folders else "no GRUB"
        raise PreflightError(f"{partition} has {said}: run grub-install --force-extra-removable")
    return folders[0]


def _size(content: EspContent, loader: str) -> int:
    shim = content.files.get(f"{loader}/{_SHIM}")
    if shim is None:
        return content.files[f"{loader}/{_GRUB}"]
    return shim + sum(content.files.get(f"{loader}/{name}", 0) for name in _BESIDE_SHIM)
