"""Have UEFI firmware start a box: install GRUB, the removable path and a boot entry."""

from __future__ import annotations

import shlex

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.firmware import Esp
from deploys.facts.host_state import EFI_VARIABLES
from deploys.operations import Commands
from deploys.operations.boot import chroot_prefix

# Uses the partition where it is mounted. Else it mounts it at /mnt, in a mount namespace that ends
# with the script.
_AT = """
set -eu
at=$(findmnt --noheadings --first-only --output TARGET --source "$1") || {
    at=/mnt
    mount "$1" "$at"
}
"""
# Each file is replaced whole or not at all, and the program that firmware starts is the last. If
# GRUB is signed, that program is shim. It starts the GRUB beside it, whose settings lie there too.
_REMOVABLE = f"""{_AT}
cd "$at/EFI"
sync
copy() {{
    cp "$loader/$1" "BOOT/$2.new"
    sync "BOOT/$2.new"
    mv "BOOT/$2.new" "BOOT/$2"
}}
loader=$2 first=grubx64.efi
mkdir -p BOOT
if [ -e "$loader/shimx64.efi" ]; then
    first=shimx64.efi
    for beside in grubx64.efi mmx64.efi grub.cfg; do
        [ ! -e "$loader/$beside" ] || copy "$beside" "$beside"
    done
fi
copy "$first" BOOTX64.EFI
rm -f BOOT/fbx64.efi # with it shim starts what it finds beside BOOT
sync --file-system .
"""
_NO_REMOVABLE = f"""{_AT}
find "$at" -mindepth 3 -maxdepth 3 -ipath "$at/EFI/BOOT/BOOTX64.EFI" \
    -execdir mv {{}} BOOTX64.OLD ';'
sync --file-system "$at"
"""
_OLD_REMOVABLE = f"""{_AT}
find "$at" -mindepth 3 -maxdepth 3 -ipath "$at/EFI/BOOT/BOOTX64.OLD" \
    -execdir sh -ec '[ -e BOOTX64.EFI ] || mv "$1" BOOTX64.EFI' sh {{}} ';'
sync --file-system "$at"
"""
_NO_ENTRY = """
efibootmgr | sed -nE "s/^Boot([0-9A-F]{4})[* ] $label(\\t.*)?\\$/\\1/p" |
while read -r old; do
    efibootmgr --quiet --bootnum "$old" --delete-bootnum
done
"""
# An earlier run that broke off may have left an entry.
_ENTRY = f"""{_AT}
disk=$2 number=$3 label=$4
loader=grubx64.efi
[ ! -e "$at/EFI/$label/shimx64.efi" ] || loader=shimx64.efi
{_NO_ENTRY}
efibootmgr --quiet --create --disk "$disk" --part "$number" --label "$label" \
    --loader "\\\\EFI\\\\$label\\\\$loader"
"""
# An upgrade must renew GRUB at both places, as both load their modules from /boot.
_KEEP = """
dpkg-query --show --showformat='${db:Status-Abbrev}' grub-efi-amd64 2>/dev/null | grep -q ^ii ||
    exit 0
echo 'grub-efi-amd64 grub2/force_efi_extra_removable boolean true' | debconf-set-selections
"""


@operation()
def grub_for_uefi(folder: str, root: str) -> Commands:
    """Install GRUB for UEFI at ``/boot/efi``, in ``folder`` below ``EFI``, without a boot entry."""
    words = ("--target=x86_64-efi", "--efi-directory=/boot/efi", "--no-nvram")
    yield StringCommand(
        f"{chroot_prefix(root)}grub-install", *words, shlex.quote(f"--bootloader-id={folder}")
    )


@operation()
def removable_path(partition: str, loader: str, new: bool = False) -> Commands:
    """Copy a loader to the removable path, so that firmware finds it without a boot entry.

    Args:
        partition: the EFI system partition, mounted or not.
        loader: the folder below ``EFI`` that has the loader.
        new: an operation before this one makes the partition.
    """
    if not new and host.get_fact(Esp, device=partition).has_removable:
        host.noop(f"{partition} has a loader at its removable path")
        return
    yield _script(_REMOVABLE, "removable-path", partition, loader)


@operation()
def removable_path_upgrades(root: str = "") -> Commands:
    """Have upgrades of GRUB also renew the loader at the removable path."""
    yield StringCommand(f"{chroot_prefix(root)}{shlex.join(('sh', '-c', _KEEP))}")


@operation()
def no_removable_path(partition: str) -> Commands:
    """Rename the loader at the removable path, so that firmware does not find it."""
    yield _script(_NO_REMOVABLE, "no-removable-path", partition)


@operation()
def boot_entry(partition: str, disk: str, number: int, label: str) -> Commands:
    """Add a boot entry before all others of the firmware.

    Args:
        partition: the EFI system partition.
        disk: its disk.
        number: its number on the disk.
        label: the entry's name, and the folder below ``EFI`` that has the loader.
    """
    yield _script(_ENTRY, "boot-entry", partition, disk, str(number), label)


@operation()
def old_removable_path(partition: str) -> Commands:
    """Undo :func:`no_removable_path`."""
    yield _script(_OLD_REMOVABLE, "old-removable-path", partition)


@operation()
def no_boot_entry(label: str) -> Commands:
    """Remove the firmware's boot entries of this name, where they can be written."""
    script = f"set -eu\nlabel=$1\n{_NO_ENTRY}"
    yield StringCommand(
        f"! findmnt --noheadings --options rw {EFI_VARIABLES} >/dev/null ||",
        shlex.join(("sh", "-c", script, "no-boot-entry", label)),
    )


def _script(script: str, *words: str) -> StringCommand:
    return StringCommand(shlex.join(("unshare", "--mount", "sh", "-c", script, *words)))
