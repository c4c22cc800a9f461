"""Note what a host is before its first provision, so that ``unprovision`` can give it back.

The record is a folder on the root that the host goes back to. It is made before all else. What a
provision that broke off already changed is not taken for the host's own: only the lines of the
file ``host`` are written again.

A plain root stays where it is. A root on LVM is changed in place: so its VG keeps a snapshot of it,
and /boot keeps its files of that time, from which GRUB can boot.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pyinfra.api.command import StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

from deploys.facts.lvm import BEFORE_TAG
from deploys.operations import Commands
from deploys.operations.boot import GIVEN_BACK
from deploys.plan.of_file import BOOT
from deploys.plan.of_firmware import LOADER
from deploys.plan.result import Kind, VolumePlan

RECORD = "/var/lib/pipeline-before"
KEPT = "/boot/grub/before"
MENU_BOOT = "/grub/before/boot"
CONFIGURED = ("/etc/lvm/lvmlocal.conf", "/etc/lvm/devices/system.devices")
"""Files of a plain host's old root that a provision changes."""

INSTALLED = (
    "dpkg-query --show --showformat='${db:Status-Status} ${binary:Package}\\n'"
    " | sed -n 's/^installed //p' | LC_ALL=C sort"
)
AT_ESP = """
at=$(findmnt --noheadings --first-only --output TARGET --source "$esp") || {
    at=/mnt
    mount "$esp" "$at"
}
"""
LOADERS = f"find . -depth -regextype posix-extended -iregex './EFI/(BOOT|{LOADER})(/.*)?'"
FLUSHED = """
trap '' HUP INT TERM # a signal in between would leave /boot frozen
flush() {
    sync
    ! fsfreeze --freeze "$1" 2>/dev/null || fsfreeze --unfreeze "$1"
}
"""

# The words after the first two are the lines of the file "host".
_NOTE = f"""
set -eu
record=$1 esp=$2
shift 2
if [ -e "$record" ]; then
    printf '%s\\n' "$@" >"$record/host.new"
    sync "$record/host.new"
    mv "$record/host.new" "$record/host"
    exit
fi
rm -rf "$record.new"
mkdir -m 0700 "$record.new"
printf '%s\\n' "$@" >"$record.new/host"
{INSTALLED} >"$record.new/packages"
lvs --noheadings --options lv_full_name 2>/dev/null | tr -d ' ' >"$record.new/volumes" || :
for file in {" ".join(CONFIGURED)}; do
    [ -e "$file" ] || continue
    mkdir -p "$record.new${{file%/*}}"
    cp -a "$file" "$record.new$file"
done
if [ "$esp" ]; then
    blkid -s UUID -o value "$esp" >"$record.new/esp"
    {AT_ESP}
    (cd "$at" && {LOADERS}) >"$record.new/removable"
    mkdir "$record.new/loaders"
    find "$at/EFI" -mindepth 1 -maxdepth 1 -iname BOOT -exec cp -r -t "$record.new/loaders" {{}} +
fi
sync --file-system "$record.new"
mv "$record.new" "$record"
sync --file-system "$record"
"""

# install-grub leaves GRUB's old core where it is, if there is room beside it: then the boot sector
# alone brings it back. Without GRUB's name in the sector there is no core to keep.
FIND_CORE = """
number() { # OFFSET BYTES FILE
    od -An -v -t "u$2" -j "$1" -N "$2" "$3" | tr -d ' \\n'
}
find_core() { # FILE: sets $core, its first sector, and $sectors, their number
    core=0 sectors=1
    head -c 440 "$1" | grep -q GRUB || return 0
    core=$(number 92 8 "$1")
    sectors=$((1 + $(number $((core * 512 + 508)) 2 "$1")))
}
of_core() { sha256sum </boot/grub/i386-pc/core.img 2>/dev/null || :; }
"""
_SECTORS = f"""
set -eu
{FIND_CORE}
record=$1
shift
[ ! -e "$record/disks" ] || exit 0
rm -rf "$record/disks.new"
mkdir "$record/disks.new"
of_core >"$record/disks.new/core.img"
for disk; do
    find_core "$disk"
    [ "$((core + sectors))" -le 65536 ] || core=0 sectors=1
    id=$(blkid -p -s PTUUID -o value "$disk")
    dd if="$disk" of="$record/disks.new/$id.sectors" bs=512 count=$((core + sectors)) status=none
done
sync --file-system "$record/disks.new"
mv "$record/disks.new" "$record/disks"
"""

# dracut writes into the old initrd. All else renames a new file over the old kernel or initrd.
_KEEP = f"""
set -eu
{FLUSHED}
group=$1 lvroot=$2 size=$3 kept=$4
name=${{lvroot}}_before
attr=$(lvs --noheadings --options lv_attr --select lv_tags={BEFORE_TAG} "$group/$name" 2>/dev/null |
    tr -d ' ')
case $attr in
[sS]*) exit 0 ;;
?*) lvremove --yes "$group/$name" ;; # the power went before it became a snapshot
esac
rm -rf "$kept" "$kept.new" /boot/{GIVEN_BACK}
mkdir "$kept.new" "$kept.new/boot"
find /boot -maxdepth 1 ! -type d -exec ln -t "$kept.new/boot" {{}} +
if [ ! -x /usr/sbin/update-initramfs ]; then
    find /boot -maxdepth 1 -name 'initrd.img-*' \\
        -exec cp -a --remove-destination -t "$kept.new/boot" {{}} +
fi
cp -a /boot/grub/grub.cfg "$kept.new"
[ ! -e /boot/grub/grubenv ] || cp -a /boot/grub/grubenv "$kept.new"
sed -E 's#^(\\s*(linux|initrd)\\s[^ ]*)/(vmlinuz-|initrd.img-)#\\1{MENU_BOOT}/\\3#' \\
    /boot/grub/grub.cfg >"$kept.new/menu.cfg"
grub-script-check "$kept.new/menu.cfg"
mv "$kept.new" "$kept"
flush /boot
lvcreate --yes --snapshot --chunksize 64K --size "$size" --addtag {BEFORE_TAG} \\
    --name "$name" "$group/$lvroot"
"""

_NEW_PACKAGES = f"""
set -eu
record=$1
{INSTALLED} | LC_ALL=C comm -13 "$record/packages" - >"$record/new-packages.made"
sync "$record/new-packages.made"
mv "$record/new-packages.made" "$record/new-packages"
"""


@dataclass(frozen=True)
class Before:
    """The record of a host.

    Attributes:
        kind: the row of ``ways.WAYS``.
        volgroup: the box's VG.
        lvroot: its golden root.
        lvsnap: the snapshot that it runs on.
        old_root: the UUID of the filesystem of a root that stayed where it is.
        volumes: the LVs that the host had, as ``GROUP/NAME``.
        packages: those that a provision added to a plain root.
        kept: lv_attr of lvs(8) of the snapshot of a root on LVM; empty if there is none.
        folder: the folder on the host that is the /boot of a box in a file.
    """

    kind: str
    volgroup: str
    lvroot: str
    lvsnap: str
    old_root: str = ""
    volumes: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    kept: str = ""
    folder: str = BOOT


class Record(FactBase[Before | None]):
    """The :class:`Before` of a host; None if it never was provisioned, or was given back."""

    def command(self) -> str:
        return (
            f"cd {RECORD} 2>/dev/null || exit 0; cat host; sed 's/^/volume=/' volumes; "
            "[ ! -e new-packages ] || sed 's/^/package=/' new-packages; "
            "lvs --all --noheadings --options lv_attr --select "
            f"lv_tags={BEFORE_TAG} 2>/dev/null | sed 's/^ */kept=/' || true"
        )

    def process(self, output: list[str]) -> Before | None:
        lines = [line.partition("=")[::2] for line in output]
        values = dict(lines)
        if "kind" not in values:
            return None
        return Before(
            values["kind"],
            values["volgroup"],
            values["lvroot"],
            values["lvsnap"],
            values.get("old_root", ""),
            tuple(value for name, value in lines if name == "volume"),
            tuple(value for name, value in lines if name == "package"),
            values.get("kept", ""),
            values.get("folder", BOOT),
        )


# The rows of ``ways.WAYS``.
_WORDS = {Kind.SPARE: "spare", Kind.FILE: "file", Kind.LVM: "lvm", Kind.EXTEND: "lvm"}


@deploy("Before")
def noted(plan: VolumePlan) -> None:
    """Note what a host is, before all other steps of its first provision."""
    lines = {
        "kind": _WORDS[plan.kind],
        "volgroup": plan.volgroup,
        "lvroot": plan.lvroot,
        "lvsnap": plan.lvsnap,
        "old_root": plan.old_root_uuid,
    }
    if plan.file:
        lines["folder"] = plan.boot_partition
    esp = plan.efi.partition if plan.efi and plan.efi.is_changed else ""
    note(name="Note what the host is", lines=lines, esp=esp)
    if plan.copies_root and plan.efi is None:
        old_disks = [disk for disk in plan.grub_disks if disk != plan.device]
        boot_sectors(name="Keep the boot sectors", disks=old_disks)
    if plan.before:
        old_root(
            name="Keep the root as it is",
            group=plan.volgroup,
            lvroot=plan.lvroot,
            size=plan.before,
        )


@operation()
def note(lines: dict[str, str], esp: str = "") -> Commands:
    """Make the record, or write its file ``host`` again.

    Args:
        lines: the file's lines.
        esp: the host's own EFI system partition, if loaders are to be put there.
    """
    words = (f"{name}={value}" for name, value in lines.items())
    # In a mount namespace of its own, with which its mount ends.
    script = ("unshare", "--mount", "sh", "-c", _NOTE, "note")
    yield StringCommand(shlex.join((*script, RECORD, esp, *words)))


@operation()
def boot_sectors(disks: Sequence[str]) -> Commands:
    """Keep the boot sectors of whole disks, and the GRUBs for BIOS that they start."""
    yield _script(_SECTORS, "boot-sectors", RECORD, *disks)


@operation()
def old_root(group: str, lvroot: str, size: int) -> Commands:
    """Keep a root on LVM as a snapshot of ``size`` bytes, and the files of its /boot."""
    yield _script(_KEEP, "old-root", group, lvroot, f"{size}b", KEPT)


@operation()
def new_packages() -> Commands:
    """Note the packages that the host did not have when it was recorded."""
    yield _script(_NEW_PACKAGES, "new-packages", RECORD)


def _script(script: str, *words: str) -> StringCommand:
    return StringCommand(shlex.join(("sh", "-c", script, *words)))
