"""Look from a box at the plain root that the host had before."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api.facts import FactBase

from deploys.reset.back.before import RECORD

# In a mount namespace of its own, with which its mounts end.
_LOOK = f"""
device=$(blkid -U "$1") || exit 0
# a box in a file has both mounted already, to write
look() {{ mount -o ro "$1" "$2" 2>/dev/null || mount "$1" "$2"; }}
look "$device" /mnt || exit 0
echo there
[ ! -e /mnt{RECORD}/host ] || echo noted
if [ "$2" ] && [ "$2" != "$1" ]; then
    device=$(blkid -U "$2") && look "$device" /mnt/boot || exit 0
fi
[ -e /mnt/boot/grub/grub.cfg ] || exit 0
for kernel in /mnt/boot/vmlinuz-*; do
    version=${{kernel##*/vmlinuz-}}
    [ ! -e "/mnt/boot/initrd.img-$version" ] || [ ! -e "/mnt/lib/modules/$version/modules.dep" ] ||
        echo boots
done
"""


@dataclass(frozen=True)
class OldSystem:
    """An old root. ``noted``: it has its record. ``boots``: a kernel, its initrd and modules."""

    there: bool = False
    noted: bool = False
    boots: bool = False


class OldRoot(FactBase[OldSystem]):
    """The :class:`OldSystem` on the filesystem ``root``, whose /boot is on ``boot``: their UUIDs.

    ``boot`` may be empty: then it is part of the root.
    """

    default = OldSystem

    def command(self, root: str, boot: str) -> str:
        return shlex.join(("unshare", "--mount", "sh", "-c", _LOOK, "old-root", root, boot))

    def process(self, output: list[str]) -> OldSystem:
        return OldSystem(*(word in output for word in ("there", "noted", "boots")))
