"""Plan the boot loaders that UEFI firmware is to find on the disk of a host; pure."""

from __future__ import annotations

from dataclasses import dataclass

from deploys.errors import PreflightError
from deploys.facts.disks import BlockDevice
from deploys.facts.firmware import EspContent
from deploys.plan.sizes import human
from deploys.plan.survey import Survey
from deploys.settings import MIB

# The specification wants FAT32 on a fixed disk. With sectors of 4 KiB this is the least for it.
ESP_SIZE = 260 * MIB
LOADER = "pipeline"
"""The name of a box's boot entry, and of its loader's folder below ``EFI``."""
_SHIM, _GRUB = "shimx64.efi", "grubx64.efi"
_BESIDE_SHIM = (_GRUB, "mmx64.efi", "grub.cfg")
_GRUBS = 16 * MIB  # a signed loader in two places has 12
_MARGIN = MIB  # FAT rounds each file up, and a folder takes room


@dataclass(frozen=True)
class EfiPlan:
    """The EFI system partition that the firmware starts the box from, and what it gets.

    ``loader`` is the folder below ``EFI`` that has GRUB; ``removable``: it is copied to the
    removable path. A partition that gets a GRUB for the copied root is ``number`` on ``disk``;
    ``new``: that is a spare disk, else it is the host's own. ``entry``: a boot entry is made, as
    the firmware's variables are writable. ``old`` is the partition that started the host so far, if
    it is another, and has a loader at its removable path.
    """

    partition: str
    loader: str = LOADER
    removable: bool = True
    disk: str = ""
    number: int = 0
    new: bool = False
    entry: bool = False
    old: str = ""

    @property
    def lacks_removable(self) -> bool:
        """Whether the host's own partition gets a loader at its removable path."""
        return self.removable and not self.disk

    @property
    def is_changed(self) -> bool:
        """Whether the host's own partition gets a loader, or another one."""
        return self.removable and not self.new

    def rows(self) -> list[tuple[str, str, str]]:
        """Operation, object and detail of each step, in order."""
        if self.lacks_removable:
            return [("boot loader", self.partition, f"EFI/BOOT, a copy of EFI/{self.loader}")]
        if not self.disk:
            return []
        rows = [("boot loader", self.partition, f"EFI/{self.loader} and EFI/BOOT")]
        if self.old:
            rows.append(("rename", self.old, "EFI/BOOT/BOOTX64.EFI to BOOTX64.OLD"))
        detail = f"to {self.partition}, the first" if self.entry else "none: NVRAM is not writable"
        return [*rows, ("boot entry", self.loader, detail)]


def check_firmware(survey: Survey) -> None:
    """Check that a box can start with this firmware.

    With Secure Boot a box starts by the signed loaders of Debian and Ubuntu, like any host. They
    verify GRUB and the kernel, which we do not change. Nothing verifies GRUB's settings and
    initrds, which we do.

    Raises:
        PreflightError: it cannot.
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
    """Plan for a root that is copied to ``disk``. None if BIOS started the host.

    Args:
        survey: the state of the host.
        disk: the spare disk.
        partition: its EFI system partition.
        number: the number of that.

    Raises:
        PreflightError: the host has several EFI system partitions, and none is mounted.
    """
    if survey.firmware.kind != "uefi":
        return None
    own = _own_esp(survey)
    return EfiPlan(
        partition,
        disk=disk,
        number=number,
        new=True,
        entry=survey.firmware.writable,
        old=own.path if own and survey.esps[own.path].has_removable else "",
    )


def plan_beside(survey: Survey) -> EfiPlan | None:
    """Plan for a root that is copied to a file: a GRUB beside the host's own one. None by BIOS.

    Args:
        survey: the state of the host.

    Raises:
        PreflightError: the host has no EFI system partition, or that has no room.
    """
    if survey.firmware.kind != "uefi":
        return None
    own = _existing_esp(survey)
    free = survey.esps[own.path].free
    if free < _GRUBS:
        raise PreflightError(
            f"{own.path} has {human(free)} free; a second boot loader needs {human(_GRUBS)}"
        )
    if own.type != "part":
        raise PreflightError(f"{own.path} is no partition: a boot entry cannot name it")
    [disk] = survey.blocks.disks_under(own.path)
    number = own.path.removeprefix(disk.path).removeprefix("p")
    return EfiPlan(own.path, disk=disk.path, number=int(number), entry=survey.firmware.writable)


def plan_here(survey: Survey, boot: str) -> EfiPlan | None:
    """Plan for a host that keeps its disks. None if BIOS started it.

    Args:
        survey: the state of the host.
        boot: the partition of /boot.

    Raises:
        PreflightError: the firmware does not start a GRUB that reads this ``/boot``, or the
            partition has no room for a loader at its removable path.
    """
    if survey.firmware.kind != "uefi":
        return None
    if not survey.firmware.grub:
        raise PreflightError(
            "the host started by UEFI, and not by GRUB: /boot/grub/x86_64-efi is missing"
        )
    own = _existing_esp(survey)
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


def _existing_esp(survey: Survey) -> BlockDevice:
    own = _own_esp(survey)
    if own is None:
        raise PreflightError("the host started by UEFI, but its disks have no EFI system partition")
    return own


def _loader(partition: str, content: EspContent) -> str:
    """The folder below ``EFI`` that has GRUB; there must be one."""
    folders = [path.partition("/")[0] for path in content.files if path.endswith(f"/{_GRUB}")]
    if len(folders) != 1:
        found = f"several GRUBs ({', '.join(sorted(folders))})" if folders else "no GRUB"
        raise PreflightError(f"{partition} has {found}: run grub-install --force-extra-removable")
    return folders[0]


def _size(content: EspContent, loader: str) -> int:
    shim = content.files.get(f"{loader}/{_SHIM}")
    if shim is None:
        return content.files[f"{loader}/{_GRUB}"]
    return shim + sum(content.files.get(f"{loader}/{name}", 0) for name in _BESIDE_SHIM)
