"""Copy the running root to a logical volume."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.disks import Fstab
from deploys.facts.lvm import Lvm
from deploys.facts.mapper import mapper_path
from deploys.operations import Commands
from deploys.operations.disks import NOFAIL
from deploys.settings import own_volumes

# A snapshot runs without /boot.
BOOT_OPTIONS = f"defaults,{NOFAIL}"
HOST = "/run/initramfs/host"
"""Where a box in a file has the root of its host: root's only, and mounted to the very end.

static/onbox/usr/lib/resnap/resnap has the same.
"""
FILE = "/pipeline/box.img"
"""The file on the host's root in which the volume group of such a box lies."""
SUBFOLDER = "pipeline"
"""The folder in which such a box has its /boot, where the host's /boot is a partition."""
COPIED = "resnap.copied"  # the LVM tag of a golden root whose copy is complete

# It runs in a mount namespace of its own, so its mounts end with it. The copy's /boot is mounted
# first: if /boot is part of the running root, cp -x, which stays on that root, fills it too. If
# /boot is a filesystem of its own, it is copied after the root. cp fails if a file vanishes while
# it runs: it is started again, over what it has copied. For a box in a file /boot is to be a folder
# of what is copied: that and the file with the copy are hidden from cp. The file's loop device
# refuses to zero, and the kernel would log that often while it makes tables of inodes itself.
_SCRIPT = """
set -eu
golden=$1 bootdev=$2 options=$3 fstab=$4 vg=$5 lv=$6 tag=$7 esp=$8 host=$9
shift 9
file=$1
shift # the mount points of the box's own volumes are left
work=/run/pipeline-copy
mkdir -p "$work/from" "$work/to"
bind=
[ ! -d "$bootdev" ] || bind=--bind
mkfs.ext4 -q -F -L golden ${bind:+-E lazy_itable_init=0} "$golden"
mount "$golden" "$work/to"
mkdir "$work/to/boot"
mount $bind "$bootdev" "$work/to/boot"
mount --bind / "$work/from"
hide() { [ -z "$bind" ] || mount -t tmpfs -o mode=0700 none "$work/from$1"; }
hide "${file%/*}"
copy() {
    for _ in 1 2 3; do
        cp -ax --sparse=auto --remove-destination "$1/." "$2" && return
    done
    return 1
}
copy "$work/from" "$work/to"
subfolder=
if mountpoint -q /boot; then
    mount --bind /boot "$work/from/boot"
    hide "$bootdev"
    copy "$work/from/boot" "$work/to/boot"
    if [ -n "$bind" ]; then
        rmdir "$work/to$bootdev"
        subfolder=X-mount.subdir=${bootdev##*/},
        bind= bootdev=$(findmnt --noheadings --output SOURCE /boot)
    fi
fi
while read -r swap kind _; do
    case $kind in file) rm -f "$work/to$swap" ;; esac
done </proc/swaps
for place; do mkdir -p "$work/to$place"; done
[ -z "$esp" ] || mkdir -p "$work/to/boot/efi"
{
    printf 'UUID=%s / ext4 errors=remount-ro 0 1\\n' "$(blkid -s UUID -o value "$golden")"
    if [ -n "$bind" ]; then
        printf '%s /boot none bind,%s 0 0\\n' "$host$bootdev" "$options"
    else
        printf 'UUID=%s /boot ext4 %s 0 2\\n' "$(blkid -s UUID -o value "$bootdev")" \
            "$subfolder$options"
    fi
    [ -z "$esp" ] ||
        printf 'UUID=%s /boot/efi vfat umask=0077,%s 0 2\\n' \
            "$(blkid -s UUID -o value "$esp")" "$options"
    printf '%s\\n' "$fstab"
} >"$work/to/etc/fstab"
sync
umount "$work/to/boot" "$work/to"
umount --recursive "$work/from"
lvchange --addtag "$tag" "$vg/$lv"
"""


def copied_fstab(lines: Sequence[str], vg: str) -> str:
    """The copy's fstab after / and /boot: the host's other entries, then the box's own volumes."""
    copied = [line for line in lines if _is_copied(line)]
    return "\n".join((*copied, *own_volumes.fstab(vg)))


def _is_copied(line: str) -> bool:
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith("#"):
        return False  # a comment may be about a line that is left out
    replaced = ("/", "/boot", "/boot/efi", *(row.mount for row in own_volumes.mounted()))
    return fields[1] not in replaced and fields[2] != "swap"


@operation()
def copy_root(group: str, volume: str, boot: str, esp: str = "") -> Commands:
    """Copy the running root to an LV and ``/boot`` to its place, and write the copy's fstab.

    The running root stays as it is. The LV gets a tag when the whole copy is on the disk. An LV
    without the tag has a copy that broke off: it is made again, on a new filesystem.

    Args:
        group: the VG.
        volume: the LV. An earlier operation may make it.
        boot: the partition that becomes ``/boot``; it must have a filesystem. Or a folder of the
            running root, for a box in a file; all that is beside it there is not copied.
        esp: the partition that becomes ``/boot/efi``; empty if there is none.
    """
    existing = host.get_fact(Lvm).group(group)
    golden = existing.lv(volume) if existing else None
    if golden and COPIED in golden.tags:
        host.noop(f"{group}/{volume} already holds the root")
        return
    fstab = host.get_fact(Fstab)
    arguments = (
        mapper_path(group, volume),
        boot,
        BOOT_OPTIONS,
        copied_fstab(fstab, group),
        group,
        volume,
        COPIED,
        esp,
        HOST,
        FILE,
        *(row.mount for row in own_volumes.mounted()),
    )
    words = ("unshare", "--mount", "sh", "-c", _SCRIPT, "copy-root", *arguments)
    yield StringCommand(shlex.join(words))
