"""The speed of a snapshot against a plain volume, with overlayfs beside it.

On a disk plugged in for it, in a volume group of its own: nothing of the box's is touched, and
a box whose volume group is full can be measured too. The disk is allocated beforehand and nothing
on it is discarded: else each new snapshot, and nothing else, would pay for this machine's
allocation. All three are ext4 with the same files. Reads are of ``data``, which was there before
the snapshot was taken; writes go to ``new``, as a job's do. Sequential I/O is measured twice:
through the guest's cache, which is emptied before, as programs read and write (a write ends when
all of it is on the disk); and past it, a MB at a time, each waited for. There a snapshot has to
have the table of each MB's chunks on the disk, by two flushes, before the next MB is sent.
The first write to a part of ``data`` pays for the copy of its chunk, under overlayfs for that of
the whole file: a row of its own, without a promise.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from deploys.errors import BoxError
from deploys.settings import GIB, format_size
from tasks.desk import shell
from tasks.guests.qemu.qmp import QmpError
from tasks.hosts.connection import Host
from tests.bench.shared.guest import running_guest, running_host, script
from tests.bench.shared.rows import Row, Step, Target
from tests.hosts.guest import Guest

_ROUNDS = 3
_DISK = 4 * GIB
_TARGET = Target(low=0.9)
_PREPARE = """
disk=$1
export DEBIAN_FRONTEND=noninteractive
command -v fio >/dev/null || { apt-get -q update; apt-get -q -y --no-install-recommends install fio; }
vgcreate -q -y bench "$disk"
for volume in plain origin; do
    lvcreate -q -y -Wy -L 1G -n $volume bench
    mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 /dev/bench/$volume
    mkdir -p /run/bench/$volume
    mount /dev/bench/$volume /run/bench/$volume
    dd if=/dev/urandom of=/run/bench/$volume/data bs=1M count=192 conv=fsync status=none
done
umount /run/bench/origin
cd /run/bench && mkdir -p plain/lower plain/upper plain/work overlay snap
ln plain/data plain/lower/data
mount -t overlay -o lowerdir=plain/lower,upperdir=plain/upper,workdir=plain/work overlay overlay
"""  # noqa: E501
_FRESH = """
! mountpoint -q /run/bench/snap || umount /run/bench/snap
[ ! -e /dev/bench/snap ] || lvremove -q -y --config devices/issue_discards=0 bench/snap
lvcreate -q -y -s -c "$1" -L 1200M -n snap bench/origin
mount /dev/bench/snap /run/bench/snap
rm -f /run/bench/plain/new /run/bench/overlay/new
sync
"""
_CLEAN = """
cd /
for mount in overlay snap plain origin; do
    ! mountpoint -q /run/bench/$mount || umount /run/bench/$mount
done
! vgs bench >/dev/null 2>&1 || vgremove -q -y -f bench
! pvs "$1" >/dev/null 2>&1 || pvremove -q -y -f "$1"
"""
_FIO = "fio --name=bench --ioengine=psync --fallocate=none --output-format=json"
# fio's arguments by what is measured; each ends by itself after so many bytes or seconds.
_JOBS = {
    "sequential read": "--rw=read --bs=1M --invalidate=1 --filename={data}",
    "sequential write": "--rw=write --bs=1M --size=192M --end_fsync=1 --filename={new}",
    "sequential read, direct": "--rw=read --bs=1M --direct=1 --time_based --runtime=3 "
    "--filename={data}",
    "sequential write, direct": "--rw=write --bs=1M --direct=1 --size=192M --filename={new}",
    "random 4k write, direct": "--rw=randwrite --bs=4k --direct=1 --size=192M --io_size=12M "
    "--filename={new}",
}
_FIRST = "random 4k write, direct, first to what was there"
_FIRST_ARGUMENTS = "--rw=randwrite --bs=4k --direct=1 --size=192M --io_size=3M --filename={data}"
_STORES = ("plain", "snap", "overlay")

Speeds = dict[tuple[str, str], list[float]]


def root(step: Step) -> list[Row]:
    """The median speeds in MB/s: the snapshot's with targets, overlayfs's to compare.

    Raises:
        BoxError: no guest runs, or it has no snapshot whose chunk size could be taken.
    """
    speeds: Speeds = {}
    with running_host() as host:
        chunk = format_size(_chunk_size(host))
        with _disk(host, running_guest()) as disk:
            try:
                step("making volumes")
                script(host, _PREPARE, disk)
                for number in range(1, _ROUNDS + 1):
                    step(f"round {number} of {_ROUNDS}")
                    script(host, _FRESH, chunk)
                    for store in _STORES:
                        _measure(host, store, speeds)
            finally:
                step("removing volumes")
                script(host, _CLEAN, disk)
    return _rows(chunk, speeds)


def _rows(chunk: str, speeds: Speeds) -> list[Row]:
    rows = []
    for job in _JOBS:
        plain, snap, overlay = (median(speeds[store, job]) for store in _STORES)
        what = f"{job}, snapshot with {chunk} chunks beside a plain volume"
        rows.append(Row(what, "MB/s", snap, plain, _TARGET))
        rows.append(Row(f"{job}, overlayfs beside a plain volume", "MB/s", overlay, plain))
    plain, snap = (median(speeds[store, _FIRST]) for store in ("plain", "snap"))
    return [*rows, Row(f"{_FIRST}, snapshot beside a plain volume", "MB/s", snap, plain)]


def _measure(host: Host, store: str, speeds: Speeds) -> None:
    jobs = dict(_JOBS) if store == "overlay" else {**_JOBS, _FIRST: _FIRST_ARGUMENTS}
    folder = f"/run/bench/{store}"
    for job, arguments in jobs.items():
        files = {"data": f"{folder}/data", "new": f"{folder}/new"}
        report = json.loads(script(host, f"{_FIO} {arguments.format(**files)}"))
        [result] = report["jobs"]
        moved = result["read" if "read" in job else "write"]["io_bytes"]
        # fio's own rate leaves the last fsync out; the job's time, in ms, has it
        speeds.setdefault((store, job), []).append(moved / 1e3 / result["job_runtime"])


def _chunk_size(host: Host) -> int:
    """The bytes of a chunk of the box's own snapshot."""
    state = host.state()
    if not state.in_snapshot:
        raise BoxError(f"{host.name} runs in no snapshot: run inv resnap first")
    volume = f"{state.defaults['VOLGROUP']}/{state.defaults['LVSNAP']}"
    words = host.run(f"lvs --noheadings --nosuffix --units b -o chunk_size {volume}")
    return int(words)


@contextlib.contextmanager
def _disk(host: Host, guest: Guest) -> Iterator[str]:
    """A disk of its own in the guest, by its path there, gone afterwards."""
    before = _disks(host)
    with tempfile.TemporaryDirectory(dir=guest.directory, prefix="bench-") as folder:
        disk = Path(folder) / "disk.qcow2"
        allocated = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=falloc"]
        shell.run([*allocated, disk, str(_DISK)])
        guest.add_disk(disk)
        name = "late0"
        try:
            found: set[str] = set()
            for attempt in _tries():
                with attempt:
                    found = _disks(host) - before
                    if not found:
                        raise BoxError("the disk for the bench does not appear in the guest")
            yield f"/dev/{found.pop()}"
        finally:
            guest.qmp("device_del", id=f"{name}-device")
            for attempt in _tries():
                with attempt:  # in use until the guest has let it go
                    guest.qmp("blockdev-del", **{"node-name": name})


def _tries() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type((BoxError, QmpError)),
        stop=stop_after_delay(30),
        wait=wait_fixed(0.5),
        reraise=True,
    )


def _disks(host: Host) -> set[str]:
    return set(host.run("lsblk --nodeps --noheadings --output NAME").split())
