"""Give the space of deleted files back: trim the box, and compact a local guest's disk."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.desk.progress import HostProgress
from tasks.guests import Guest
from tasks.hosts.connection import Host
from tasks.hosts.expectations import reboot_deadline
from tasks.hosts.fleet import connected


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was given back.

    ``filesystems`` are the lines that the box's shrink printed; ``disk`` is the size of a local
    guest's disk on this machine, before and after, in bytes.
    """

    filesystems: list[str]
    disk: tuple[int, int] | None = None


def shrink_box(host: Host, guest: Guest | None, progress: HostProgress) -> Shrunk:
    """Trim a box; if it is a local ``guest``, compact its disk too.

    Raises:
        BoxError: a step failed, or the guest did not come back.
    """
    progress.step("trimming")
    host.connect()
    before = guest.disk_usage if guest else 0
    filesystems = host.run("/usr/lib/pipeline/shrink").splitlines()
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


def _entry(host: Host) -> str:
    verdict = host.state().verdict
    return "maintenance" if verdict and verdict.name == "golden" else "keep"
