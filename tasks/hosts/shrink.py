"""Give the space of deleted files back: trim the box, and compact a local guest's disk."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.desk.progress import HostProgress
from tasks.guests import Guest
from tasks.hosts.connection import Host
from tasks.hosts.expectations import reboot_deadline
from tasks.hosts.fleet import connected

_WORDS = {"trim": "trimmed", "zero": "filled with zeros", "reset": "left to the next reset"}


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was given back.

    ``filesystems`` are the mount points with what was done, and the bytes that it gave back;
    ``disk`` is the size of a local guest's disk on this machine, before and after, in bytes.
    """

    filesystems: list[tuple[str, str, int]]
    disk: tuple[int, int] | None = None


def shrink_box(host: Host, guest: Guest | None, progress: HostProgress) -> Shrunk:
    """Trim a box; if it is a local ``guest``, compact its disk too.

    Raises:
        BoxError: a step failed, or the guest did not come back.
    """
    progress.step("trimming")
    host.connect()
    before = guest.disk_usage if guest else 0
    lines = host.run("/usr/lib/pipeline/shrink").splitlines()
    with host.parsing("its filesystems"):
        rows = (line.rsplit(" ", 2) for line in lines)
        filesystems = [(target, _WORDS[how], _bytes(size)) for target, how, size in rows]
    if guest is None:
        return Shrunk(filesystems)
    if not guest.off_to_compact:
        return Shrunk(filesystems, (before, guest.compact()))
    progress.step("compacting the disk, the guest is off meanwhile")
    # Boot the same root again: nobody asked for a reset.
    host.run(f"/usr/lib/resnap/next-boot {_entry(host)}")
    deadline = reboot_deadline(host)
    host.close()
    after = guest.compact()
    progress.step("waiting for the guest to boot")
    again = connected(guest)
    try:
        again.wait(deadline)
    finally:
        again.close()
    return Shrunk(filesystems, (before, after))


def _bytes(text: str) -> int:
    if (size := int(text)) not in range(2**63):
        raise ValueError("no disk has so many bytes")
    return size


def _entry(host: Host) -> str:
    verdict = host.state().verdict
    return "maintenance" if verdict and verdict.name == "golden" else "keep"
