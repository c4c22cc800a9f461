"""Give the partition of the root that was before the box to the volume group."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

# By UUID and not by name: disks change their names, and this erases one. A partition that is
# mounted is refused by wipefs itself. One that is not there was erased before.
_SCRIPT = """
set -eu
uuid=$1 group=$2
partition=$(blkid -U "$uuid") || exit 0
wipefs --all "$partition"
vgextend --yes "$group" "$partition"
"""


@operation()
def reclaimed(uuid: str, group: str) -> Generator[StringCommand, None, None]:
    """Erase the partition with the filesystem ``uuid`` and extend the VG ``group`` with it."""
    yield StringCommand(shlex.join(("sh", "-c", _SCRIPT, "reclaim", uuid, group)))
