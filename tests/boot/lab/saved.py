"""Save a running guest's state in a file; any number of guests go on from it, on their own disks.

This is a QEMU migration to a file: memory, processors and devices as they were between two
instructions. A guest that goes on from it is the same machine, in seconds instead of a boot. Its
clock is behind until it is set or the guest boots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tasks.desk import ssh_keys
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tests.boot.lab.box import Box, reached
from tests.hosts.guest import Guest
from tests.hosts.machine import WAITS_FOR_STATE

# Pages at places of their own in the file: those of zeros take no room and no time.
_MAPPED = [{"capability": "mapped-ram", "state": True}]
_DEADLINE = 300


class Saved(BaseModel):
    """A guest's state and its machine, whose disks are never written again."""

    model_config = ConfigDict(frozen=True)

    file: Path
    machine: Machine
    identity: ssh_keys.Identity


def save(guest: Guest, host_key: str = "") -> Saved:
    """Stop a guest between two instructions, keep its state in its folder, and end it.

    ``host_key`` is the one that it made, if it was given none.
    """
    file = guest.directory / "state"
    guest.qmp("stop")
    guest.qmp("migrate-set-capabilities", capabilities=_MAPPED)
    guest.qmp("migrate", uri=f"file:{file}")
    _await_migration(guest)  # by then the disks' files have all that was written to them
    guest.cut_power()
    known = {"host_key": host_key} if host_key else {}
    identity = guest.identity.model_copy(update=known)
    return Saved(file=file, machine=guest.machine, identity=identity)


def once(note: Path, make: Callable[[], Saved]) -> Saved:
    """Make a state once: the first of pytest's workers makes it, the others read the note."""
    with FileLock(note.with_suffix(".lock")):
        if not note.exists():
            note.write_text(make().model_dump_json())
    return Saved.model_validate_json(note.read_text())


@contextmanager
def continued(
    saved: Saved, folder: Path, accel: accelerator.Accelerator, settings: tuple[str, ...]
) -> Iterator[Box]:
    """Start a guest from a saved state, in its own folder; its power is cut at the end.

    It writes to overlays and has its own SSH port; its clock is set to the present.
    """
    disks = [
        bare.overlay(disk, folder / disk.name, backing="qcow2") for disk in saved.machine.disks
    ]
    machine = saved.machine.model_copy(update={"disks": tuple(disks), "arguments": WAITS_FOR_STATE})
    with Guest.start(folder, machine, saved.identity, accel) as guest:
        guest.qmp("migrate-set-capabilities", capabilities=_MAPPED)
        guest.qmp("migrate-incoming", uri=f"file:{saved.file}")
        _await_migration(guest)
        guest.qmp("cont")
        with reached(guest, settings) as box:
            box.succeed(f"date --set=@{time.time():.0f}")
            yield box


def _await_migration(guest: Guest) -> None:
    def status() -> str:
        told = guest.qmp("query-migrate")
        assert isinstance(told, dict)
        assert told.get("status") != "failed", told
        return str(told.get("status"))

    Retrying(
        retry=retry_if_result(lambda said: said != "completed"),
        stop=stop_after_delay(_DEADLINE),
        wait=wait_fixed(0.2),
    )(status)
