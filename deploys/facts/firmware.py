"""Facts about firmware: how the machine was started, and what an EFI system partition has."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyinfra.api.facts import FactBase

from deploys.facts.host_state import EFI_VARIABLES, SECURE_BOOT

_SIGNED = ("/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
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
# Reads the partition where it is mounted. Else it mounts it read-only, in a mount namespace that
# ends with the command.
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
    """How the machine was started, and which boot loaders the running root has.

    ``bits`` is the word size of UEFI firmware. ``writable``: boot entries can be made. ``signed``:
    shim and a signed GRUB are installed. ``grub``: /boot has the modules of a GRUB for UEFI.
    """

    kind: Literal["bios", "uefi"] = "bios"
    bits: int = 64
    secure_boot: bool = False
    writable: bool = False
    signed: bool = False
    grub: bool = False


@dataclass(frozen=True)
class EspContent:
    """The bytes of each file of an EFI system partition, and the bytes that are free.

    A file's path is that below ``EFI``, as ``debian/shimx64.efi``, in lower case: FAT does not tell
    cases apart. ``reads`` are the UUIDs of the filesystems on which its GRUBs look for settings.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    free: int = 0
    reads: tuple[str, ...] = ()

    @property
    def has_removable(self) -> bool:
        """Whether firmware finds a loader here if it has no boot entry (UEFI 2.10, 3.5.1.1)."""
        return "boot/bootx64.efi" in self.files


class Firmware(FactBase[FirmwareState]):
    """The :class:`FirmwareState`."""

    default = FirmwareState

    def command(self) -> str:
        return shlex.join(("sh", "-c", _FIRMWARE))

    def process(self, output: list[str]) -> FirmwareState:
        values = dict(line.partition("=")[::2] for line in output)
        if values.get("kind") != "uefi":
            return FirmwareState()
        return FirmwareState(
            kind="uefi",
            bits=int(values.get("bits") or 64),
            secure_boot="secure" in values,
            writable="writable" in values,
            signed="signed" in values,
            grub="grub" in values,
        )


class Esp(FactBase[EspContent]):
    """The :class:`EspContent` of the partition ``device``, be it mounted or not."""

    default = EspContent

    def command(self, device: str) -> str:
        return shlex.join(("unshare", "--mount", "sh", "-c", _ESP, "esp", device))

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
