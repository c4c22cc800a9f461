"""Hosts that start by UEFI: OVMF firmware, recipes of bare hosts, and boot entries."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tests.boot.conftest import GIB, INSTALLED
from tests.boot.lab.box import CPUS, Box, running
from tests.boot.lab.recipes import SERVER, Recipe
from tests.hosts.machine import starts_by_uefi

# The file of the firmware's code, and the template of its NVRAM.
Firmware = tuple[Path, Path]
OVMF = Path("/usr/share/OVMF")
PLAIN: Firmware = (OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_VARS_4M.fd")
# It starts only what is signed by Microsoft's keys (Secure Boot).
SECURE: Firmware = (OVMF / "OVMF_CODE_4M.secboot.fd", OVMF / "OVMF_VARS_4M.ms.fd")
PLAIN_HOST = Recipe(firmware="uefi", extra=(*SERVER, "dosfstools", *INSTALLED))
LVM_HOST = Recipe("lvm", firmware="uefi", disk_size=10 * GIB, extra=INSTALLED)

_ENTRY = (
    "efibootmgr --quiet --create --disk /dev/vda --part 1 --label debian "
    r"--loader '\EFI\debian\shimx64.efi'"
)


@contextlib.contextmanager
def host(
    recipe: Recipe,
    firmware: Firmware,
    folder: Path,
    shared: Path,
    accel: accelerator.Accelerator,
    spare: int = 12 * GIB,
) -> Iterator[Box]:
    """A bare host with a spare disk of so many bytes, on firmware with an NVRAM of its own."""
    base = bare.build(recipe, shared)
    disks = [bare.overlay(base.path, folder / "root.qcow2")]
    if spare:
        disks.append(bare.empty_disk(folder / "spare.qcow2", spare))
    nvram = Path(shutil.copy(firmware[1], folder / "nvram.fd"))
    words = starts_by_uefi(firmware[0], nvram)
    machine = Machine(disks=tuple(disks), cpus=CPUS, arguments=words)
    with running(folder, base.identity, machine, accel) as box:
        yield box


def make_entry(box: Box) -> None:
    """Give a bare host's firmware the boot entry that an installer makes for it."""
    box.succeed(_ENTRY)


def entries(box: Box) -> dict[str, str]:
    """The firmware's boot entries: their numbers by their names."""
    rows = (line.split("\t")[0] for line in box.succeed("efibootmgr").splitlines())
    return {row[10:].strip(): row[4:8] for row in rows if row[4:8].isalnum() and row[8:9] == "*"}


def boot_variable(box: Box, name: str) -> str:
    """The value of ``BootCurrent`` or ``BootOrder``, as efibootmgr prints it."""
    lines = box.succeed("efibootmgr").splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith(name))


def starts_by_both(box: Box) -> None:
    """Check that a box on a spare disk has the first boot entry, and the only removable path.

    Upgrades of GRUB write the removable path too. The box must run on its snapshot.
    """
    assert boot_variable(box, "BootOrder").startswith(entries(box)["pipeline"])
    where = "unshare --mount sh -ec 'mount -o ro {} /mnt; {} test -e /mnt/EFI/BOOT/BOOTX64.EFI'"
    box.succeed(where.format("/dev/vdb2", ""))
    box.succeed(where.format("/dev/vda1", "!"))
    box.succeed("debconf-show grub-efi-amd64 | grep -q 'force_efi_extra_removable: true'")
