"""The steps that give a host back. Each may be done again: a run that broke off goes on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from deploys.facts.lvm import BEFORE_TAG
from deploys.operations import Commands
from deploys.operations.boot import GIVEN_BACK
from deploys.reset.back.before import (
    AT_ESP,
    CONFIGURED,
    FIND_CORE,
    FLUSHED,
    KEPT,
    LOADERS,
    RECORD,
)

# Until the golden root goes back, a boot by the host's own menu has it with the old kernel.
_MODULES = """
set -eu
kept=$1
[ "$(blkid -s TYPE -o value "$kept")" = xfs ] && uuid=,nouuid || uuid=
mount -o "ro,norecovery$uuid" "$kept" /mnt
mountpoint -q /boot || mount /boot
for kernel in "$2/boot"/vmlinuz-*; do
    modules=/lib/modules/${kernel##*/vmlinuz-}
    [ -e "$modules" ] || [ ! -e "/mnt$modules" ] || cp -a "/mnt$modules" "$modules"
done
sync
"""

# A disk that was not made ready has no menu.
_FIRST = f"""
set -eu
{FLUSHED}
at=/boot
if [ "$1" ]; then
    [ "$(blkid -p -s TYPE -o value "$1")" ] || exit 0
    at=/mnt
    mount "$1" "$at"
else
    mountpoint -q /boot || mount /boot
fi
[ -d "$at/grub" ] || exit 0
: >"$at/{GIVEN_BACK}"
flush "$at"
"""

# LVM ends a merge in the background.
_MERGED = f"""
set -eu
group=$1 lvroot=$2 left=7200
is_merging() {{
    lvs --all --noheadings --options lv_name --select lv_tags={BEFORE_TAG} "$group" | grep -q .
}}
! is_merging || lvchange --poll y "$group/$lvroot"
while is_merging; do
    [ "$left" -gt 0 ] || {{
        echo "$group/$lvroot is still merging after two hours" >&2
        exit 1
    }}
    left=$((left - 1))
    sleep 1
done
"""

# GRUB reads the kept menu and files until all are in their place again.
_BOOT_FILES = f"""
set -eu
{FLUSHED}
kept=$1 mark=$2
mountpoint -q /boot
if [ -e "$kept/grub.cfg" ]; then
    for file in $(find /boot -maxdepth 1 ! -type d -printf '%f\\n'); do
        [ -e "$kept/boot/$file" ] || [ -L "$kept/boot/$file" ] || rm -f "/boot/$file"
    done
    for file in $(find "$kept/boot" -maxdepth 1 ! -type d -printf '%f\\n'); do
        rm -f "/boot/$file"
        ln "$kept/boot/$file" "/boot/$file"
    done
    flush /boot
    for file in grub.cfg grubenv; do
        [ -e "$kept/$file" ] || continue
        cp -a "$kept/$file" "/boot/grub/$file.made"
        flush /boot
        mv -f "/boot/grub/$file.made" "/boot/grub/$file"
        flush /boot
    done
    [ -e "$kept/grubenv" ] || rm -f /boot/grub/grubenv
    rm -rf "$kept.gone"
    mv "$kept" "$kept.gone"
    flush /boot
fi
rm -rf "$kept.gone" "$kept.new" "$mark" /boot/grub/golden /boot/grub/safety /boot/grub/safety.new \\
    /boot/grub/secured.cfg
rm -f /boot/grub/*.made /boot/grub/*.old
flush /boot
"""

# What firmware starts is the last that goes back.
_LOADERS = f"""
set -eu
cd "$1"
[ -e removable ] || exit 0
esp=$(blkid -U "$(cat esp)")
{AT_ESP}
had=$PWD/removable
mkdir -p loaders
cd loaders
{{ find . -type f ! -iname BOOTX64.EFI; find . -type f -iname BOOTX64.EFI; }} |
while read -r file; do
    ! cmp -s "$file" "$at/EFI/$file" || continue
    mkdir -p "$at/EFI/${{file%/*}}"
    cp "$file" "$at/EFI/$file.new"
    sync "$at/EFI/$file.new"
    mv "$at/EFI/$file.new" "$at/EFI/$file"
done
cd "$at"
{LOADERS} | grep -vxFf "$had" | while read -r path; do
    if [ -d "$path" ]; then rmdir "$path"; else rm "$path"; fi
done
sync --file-system .
"""

_TAKEN_OUT = """
set -eu
group=$1
shift
for part; do
    used=$(pvs --noheadings --nosuffix --units b --options pv_used "$part")
    if [ "$((used))" = 0 ]; then
        vgreduce "$group" "$part"
        pvremove "$part"
    else
        echo "$part stays in $group: it has volumes of yours" >&2
    fi
done
"""

# The old core first, unless it is where it was; then the boot sector, which is written as a whole.
# If the host's own grub-install has run since, the sectors are its own already.
_SECTORS = f"""
set -eu
{FIND_CORE}
cd "$1"
[ -d disks ] && [ "$(of_core)" = "$(cat disks/core.img)" ] || exit 0
for kept in disks/*.sectors; do
    [ -e "$kept" ] || continue
    id=${{kept##*/}} disk=
    for each in $(lsblk --nodeps --noheadings --paths --output PATH --exclude 1,2,7,11); do
        [ "$(blkid -p -s PTUUID -o value "$each")" != "${{id%.sectors}}" ] || disk=$each
    done
    [ "$disk" ] || {{
        echo "the disk ${{id%.sectors}} is not there" >&2
        exit 1
    }}
    ! head -c 440 "$kept" | cmp -s -n 440 - "$disk" || continue
    find_core "$kept"
    if [ "$core" -gt 0 ] && ! cmp -s -n $((sectors * 512)) -i $((core * 512)) "$kept" "$disk"; then
        dd if="$kept" of="$disk" bs=512 skip="$core" seek="$core" count="$sectors" \\
            conv=notrunc,fsync status=none
    fi
    dd if="$kept" of="$disk" bs=440 count=1 conv=notrunc,fsync status=none
done
"""

_WIPE = """
set -eu
for path; do
    [ ! -b "$path" ] || wipefs --all --lock=yes "$path"
done
udevadm settle
"""

_FORGET = f"""
set -eu
record=$1
[ -z "$2" ] || rm -f "/etc/lvm/backup/$2" "/etc/lvm/archive/$2"_[0-9]*.vg
for file in {" ".join(CONFIGURED)}; do
    if [ ! -e "$record$file" ]; then
        rm -f "$file"
    elif [ -d "${{file%/*}}" ]; then
        cp -a --remove-destination "$record$file" "$file"
    fi
done
# A package that goes leaves the folders in which a file of ours was.
[ -e /usr/sbin/lvm ] || [ ! -d /etc/lvm ] || find /etc/lvm -depth -type d -empty -delete
rm -rf "$record.gone"
sync
mv "$record" "$record.gone"
sync --file-system "${{record%/*}}"
rm -rf "$record.gone"
"""


@operation()
def old_modules(group: str, lvroot: str) -> Commands:
    """Give the golden root the modules of the old root's kernels, where it has them no more."""
    yield _script(_MODULES, "modules", f"/dev/{group}/{lvroot}_before", KEPT)


@operation()
def old_root_first(boot: str) -> Commands:
    """Have GRUB start the old root from now on.

    Args:
        boot: the partition of the box's /boot; empty: it is /boot.
    """
    yield _script(_FIRST, "old-root-first", boot)


@operation()
def old_root_first_of_file() -> Commands:
    """The same on a box in a file, whose /boot cannot be frozen: the box's root lies on it."""
    made = f": >/boot/{GIVEN_BACK} && exec /usr/lib/resnap/flush-boot"
    yield StringCommand(shlex.join(("/usr/lib/resnap/with-boot", "sh", "-c", made)))


@operation()
def merge(group: str, lvroot: str) -> Commands:
    """Have the next boot merge the kept root into the golden root, which is in use now."""
    yield StringCommand(shlex.join(("lvconvert", "--yes", "--merge", f"{group}/{lvroot}_before")))


@operation()
def merged(group: str, lvroot: str) -> Commands:
    """Wait until the merge has ended."""
    yield _script(_MERGED, "merged", group, lvroot)


@operation()
def boot_files() -> Commands:
    """Put the kept files of /boot into their place again, GRUB's menu last."""
    yield _script(_BOOT_FILES, "boot-files", KEPT, f"/boot/{GIVEN_BACK}")


@operation()
def loaders() -> Commands:
    """Put the loaders at the removable path back, and remove those that the host did not have."""
    yield _script(_LOADERS, "loaders", RECORD)


@operation()
def removed(group: str, volumes: Sequence[str]) -> Commands:
    """Remove LVs."""
    if volumes:
        yield StringCommand(shlex.join(("lvremove", "--yes", *(f"{group}/{v}" for v in volumes))))


@operation()
def taken_out(group: str, parts: Sequence[str]) -> Commands:
    """Take PVs out of a VG, but for those that have volumes of the host's own."""
    if parts:
        yield _script(_TAKEN_OUT, "taken-out", group, *parts)


@operation()
def boot_sectors() -> Commands:
    """Write the boot sectors back that were kept, if any."""
    yield _script(_SECTORS, "boot-sectors", RECORD)


@operation()
def closed(group: str) -> Commands:
    """Deactivate a VG, if there is one."""
    name = shlex.quote(group)
    yield StringCommand(f"! vgs {name} >/dev/null 2>&1 || vgchange --activate n {name}")


@operation()
def wiped(paths: Sequence[str]) -> Commands:
    """Erase all signatures on block devices, in this order: partitions before their disk."""
    if paths:
        yield _script(_WIPE, "wipe", *paths)


@operation()
def file_removed(path: str, boot: str) -> Commands:
    """Remove the file of a box, what a provision that broke off left of it, and the box's /boot.

    Args:
        path: the file; its folder goes too, unless it has more.
        boot: the folder that was the box's /boot.
    """
    folder = path.rpartition("/")[0]
    yield StringCommand(shlex.join(("rm", "-rf", path, f"{path}.new", boot)))
    yield StringCommand(
        shlex.join(("rmdir", "--ignore-fail-on-non-empty", folder)), "|| [ ! -e", folder, "]"
    )


@operation()
def forgotten(group: str = "") -> Commands:
    """Give files back their old content, and remove the record.

    Args:
        group: a VG that is none of the host's own: LVM's backups of it go.
    """
    yield _script(_FORGET, "forget", RECORD, group)


def _script(script: str, *words: str) -> StringCommand:
    """In a mount namespace of its own, with which the script's mounts end."""
    return StringCommand(shlex.join(("unshare", "--mount", "sh", "-c", script, *words)))
