"""A disk that appears late: the boot waits for it and resets; it never comes up dirty and silent.

QEMU boots the box's own kernel and initrd with no disk at all; the disk is plugged in while the
initramfs waits.
"""

import time
from pathlib import Path

import pytest

from tasks.desk.ssh_keys import Identity
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.fleet import connected
from tests.boot.bed import bedinitrd
from tests.boot.conftest import StartBox
from tests.boot.lab.box import DEADLINE, Box
from tests.hosts.guest import Guest
from tests.hosts.machine import boots_kernel

# On the test bed each disk comes late; these are whole boxes.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def left_dirty(start_box: StartBox, built: Path, shared: Path) -> tuple[Machine, Identity]:
    """A box whose power went, with a dirty snapshot; QEMU is to boot it by its own kernel."""
    with start_box() as box:
        box.succeed("touch /etc/dirty; sync")
        arguments = box.succeed("cat /proc/cmdline").strip().partition(" ")[2]
    found, initrd = bedinitrd.take_kernel(built, shared)
    changed = {"arguments": boots_kernel(found, initrd, arguments)}
    return box.guest.machine.model_copy(update=changed), box.guest.identity


@pytest.mark.parametrize("seconds", [5, 20])
def test_disk_that_comes_late_is_reset(
    left_dirty: tuple[Machine, Identity],
    seconds: int,
    accel: accelerator.Accelerator,
    tmp_path: Path,
) -> None:
    machine, identity = left_dirty
    late = bare.overlay(machine.disks[0], tmp_path / "late.qcow2", backing="qcow2")
    without = machine.model_copy(update={"disks": ()})
    with Guest.start(tmp_path, without, identity, accel) as guest:
        guest.wait_for_serial("resnap: waiting for vagrant-pipeline/root", 200)
        time.sleep(seconds)  # the lateness under test, not a wait for something
        guest.add_disk(late)
        host = connected(guest)
        try:
            host.wait(DEADLINE)
            box = Box(guest, host)
            verdict = box.verdict
            assert verdict.name == "fresh"
            assert verdict.started is not None
            assert verdict.disk is not None
            assert verdict.disk - verdict.started >= seconds
            box.fail("test -e /etc/dirty")
        finally:
            host.close()
