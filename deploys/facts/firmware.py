"""What started the machine, and what UEFI firmware finds on its partition of a disk."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyinfra.api.facts import FactBase

from deploys.facts.host_state import EFI_VARIABLES, SECURE_BOOT

_SIGNED = (
    "/usr/lib/shim/shimx64.efi.signed",
    "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
)
_FIRMWARE = f"""
[ ! -d /sys/firmware/efi ] || {{
    echo kind=uefi
    echo "bits=$(cat /sys/firmware/efi/fw_platform_size)"
    [ "$(od -An -tu1 -j4 -N1 {SECURE_BOOT} 2>/dev/null | tr -d ' ')" != 1 ] || echo secure=yes
    ! findmnt --noheadings --options rw {EFI_VARIABLES} >/dev/null || echo writable=yes
    [ ! -e {_SIGNED[0]} ] || [ ! -e {_SIGNED[1]} ] || echo signed=yes
    [ ! -d /boot/grub/x86_64-efi ] || echo grub=yes
}}
"""
# Where it is mounted, or read-only in a mount namespace that ends with the command.
_ESP = r"""
at=$(findmnt --noheadings --first-only --output TARGET --source "$1") || {
    at=/mnt
    mount -o ro "$1" "$at" || exit 0
}
cd "$at"
echo "free $(df --block-size=1 --output=avail . | tail -n 1)"
find . -mindepth 3 -maxdepth 3 -ipath './EFI/*' -type f -printf 'file %s %P\n'
find . -mindepth 3 -maxdepth 3 -ipath './EFI/*/grub.cfg' \
    -exec sed -n 's/^search.fs_uuid \([^ ]*\).*/reads \1/p' {} +
"""


@dataclass(frozen=True)
class FirmwareState:
    """How the machine was started, and what the running root has for that.

    ``bits`` are those of UEFI firmware; ``secure_boot`` says that it starts only what is signed;
    ``writable`` that boot entries can be made; ``signed`` that shim and a GRUB that it starts are
    installed; ``grub`` that ``/boot`` has the modules of a GRUB for UEFI.
    """

    kind: Literal["bios", "uefi"] = "bios"
    bits: int = 64
    secure_boot: bool = False
    writable: bool = False
    signed: bool = False
    grub: bool = False


@dataclass(frozen=True)
class EspContent:
    """What is on an EFI system partition.

    ``files`` has the bytes of each file by its path below ``EFI``, in lower case, as FAT does not
    tell cases apart: ``debian/shimx64.efi``. ``free`` is in bytes. ``reads`` are the UUIDs of the
    filesystems on which its GRUBs look for their settings.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    free: int = 0
    reads: tuple[str, ...] = ()

    @property
    def has_removable(self) -> bool:
        """Whether firmware finds a loader here without a boot entry (UEFI 2.10, 3.5.1.1)."""
        return "boot/bootx64.efi" in self.files


class Firmware(FactBase[FirmwareState]):
    """The :class:`FirmwareState`."""

    def command(self) -> str:
        return shlex.join(("sh", "-c", _FIRMWARE))

    @staticmethod
    def default() -> FirmwareState:
        return FirmwareState()

    def process(self, output: list[str]) -> FirmwareState:
        said = dict(line.partition("=")[::2] for line in output)
        if said.get("kind") != "uefi":
            return FirmwareState()
        return FirmwareState(
            kind="uefi",
            bits=int(said.get("bits") or 64),
            secure_boot="secure" in said,
            writable="writable" in said,
            signed="signed" in said,
            grub="grub" in said,
        )


class Esp(FactBase[EspContent]):
    """The :class:`EspContent` of the partition at ``device``, mounted or not; nothing changes."""

    def command(self, device: str) -> str:
        return shlex.join(("unshare", "--mount", "sh", "-c", _ESP, "esp", device))

    @staticmethod
    def default() -> EspContent:
        return EspContent()

    def process(self, output: list[str]) -> EspContent:
        files: dict[str, int] = {}
        reads, free = [], 0
        for kind, _, rest in (line.partition(" ") for line in output):
            if kind == "free":
                free = int(rest)
            elif kind == "reads":
                reads.append(rest)
            elif kind == "file":
                size, _, path = rest.partition(" ")
                files[path.lower().removeprefix("efi/")] = int(size)
        return EspContent(files, free, tuple(reads))
