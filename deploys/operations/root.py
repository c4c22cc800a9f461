"""Copy the running root to a logical volume."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.disks import Fstab
from deploys.facts.lvm import Lvm
from deploys.facts.mapper import mapper_path
from deploys.operations.disks import NOFAIL
from deploys.settings import own_volumes

# No snapshot needs /boot.
BOOT_OPTIONS = f"defaults,{NOFAIL}"
COPIED = "resnap.copied"  # the LVM tag of a golden root whose copy is complete

# In a mount namespace of its own: however this ends, its mounts end with it. /boot of the copy
# is mounted first, so that one cp -x, which stays on the running root, fills both. A file that
# goes away under cp makes it fail: it is tried again, over what it left.
_SCRIPT = """
set -eu
golden=$1 bootdev=$2 options=$3 fstab=$4 vg=$5 lv=$6 tag=$7 esp=$8
shift 8 # the mount points of the box's own volumes are left
work=/run/pipeline-copy
mkdir -p "$work/from" "$work/to"
mkfs.ext4 -q -F -L golden "$golden"
mount "$golden" "$work/to"
mkdir "$work/to/boot"
mount "$bootdev" "$work/to/boot"
mount --bind / "$work/from"
copy() {
    for _ in 1 2 3; do
        cp -ax --sparse=auto --remove-destination "$1/." "$2" && return
    done
    return 1
}
copy "$work/from" "$work/to"
if mountpoint -q /boot; then copy /boot "$work/to/boot"; fi
while read -r swap kind _; do
    case $kind in file) rm -f "$work/to$swap" ;; esac
done </proc/swaps
for place; do mkdir -p "$work/to$place"; done
[ -z "$esp" ] || mkdir -p "$work/to/boot/efi"
{
    printf 'UUID=%s / ext4 errors=remount-ro 0 1\\n' "$(blkid -s UUID -o value "$golden")"
    printf 'UUID=%s /boot ext4 %s 0 2\\n' "$(blkid -s UUID -o value "$bootdev")" "$options"
    [ -z "$esp" ] ||
        printf 'UUID=%s /boot/efi vfat umask=0077,%s 0 2\\n' \
            "$(blkid -s UUID -o value "$esp")" "$options"
    printf '%s\\n' "$fstab"
} >"$work/to/etc/fstab"
sync
umount "$work/to/boot" "$work/to" "$work/from"
lvchange --addtag "$tag" "$vg/$lv"
"""


def copied_fstab(lines: Sequence[str], vg: str) -> str:
    """The copy's fstab but for / and /boot: the host's own entries, then the box's own volumes."""
    copied = [line for line in lines if _is_copied(line)]
    return "\n".join((*copied, *own_volumes.fstab(vg)))


def _is_copied(line: str) -> bool:
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith("#"):
        return False  # comments speak of the lines that went
    replaced = ("/", "/boot", "/boot/efi", *(row.mount for row in own_volumes.mounted()))
    return fields[1] not in replaced and fields[2] != "swap"


@operation()
def copy_root(
    group: str, volume: str, boot: str, esp: str = ""
) -> Generator[StringCommand, None, None]:
    """Copy the running root and ``/boot`` to an LV and a partition, with an fstab of their own.

    Nothing on the running root changes. The LV is tagged when all of it is on the disk; without
    the tag a copy counts as broken off, and is made again from an empty filesystem.

    Args:
        group: the VG.
        volume: the LV, which may be made by an earlier operation.
        boot: the partition, with a filesystem, that becomes ``/boot``.
        esp: the one that becomes ``/boot/efi``, empty so far, where there is to be one.
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
        *(row.mount for row in own_volumes.mounted()),
    )
    words = ("unshare", "--mount", "sh", "-c", _SCRIPT, "copy-root", *arguments)
    yield StringCommand(shlex.join(words))
