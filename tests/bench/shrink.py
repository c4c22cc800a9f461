"""What is left on this machine's disk of what a box wrote and deleted."""

from __future__ import annotations

from deploys.errors import BoxError
from tasks.desk.places import BOX
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect, reboot_deadline
from tasks.hosts.shrink import shrink_box
from tests.bench.shared.guest import SilentProgress, running_guest, running_host, script
from tests.bench.shared.rows import Row, Step, Target

_TARGET = Target(high=1.03)
_WRITTEN = 500_000_000
_WRITE = """
file=$1/bench
dd if=/dev/urandom of=$file bs=1M count=500 iflag=fullblock conv=fsync status=none
stat -c %s $file
rm $file
sync
"""


def shrink(step: Step) -> list[Row]:
    """Megabytes that the box's disk takes here, beside those of the box before it wrote.

    Its disk is the guest's own and the image that lies below that.

    Raises:
        BoxError: no guest runs, or it did not come back fresh.
    """
    guest = running_guest()
    below = guest.directory / BOX.name  # a bare host has none
    image = below.stat().st_blocks * 512 if below.exists() else 0

    def usage() -> float:
        return (image + guest.disk_usage) / 1e6

    with running_host() as host:
        step("resetting, for a box that nothing was written to")
        _reset(host)
        _shrink(host)
        untouched = usage()
        step("writing 500 MB to /persistent, deleting them, shrinking")
        _write(host, "/persistent")
        full = usage()
        _shrink(host)
        shrunk = usage()
        step("writing 500 MB to the root, deleting them, resetting")
        _write(host, "/var/tmp")
        _reset(host)
        reset = usage()
    return [
        Row("500 MB written to /persistent and deleted", "MB", full, untouched),
        Row("the same after one shrink", "MB", shrunk, untouched, _TARGET),
        Row("500 MB written to the root, after a reset alone", "MB", reset, untouched, _TARGET),
    ]


def _write(host: Host, folder: str) -> None:
    written = int(script(host, _WRITE, folder))
    if written < _WRITTEN:
        raise BoxError(f"{host.name}: {written} bytes were written, not 500 MB")


def _reset(host: Host) -> None:
    expect(host, host.reboot("resnap", reboot_deadline(host)), "fresh")


def _shrink(host: Host) -> None:
    shrink_box(host, running_guest(), SilentProgress())
