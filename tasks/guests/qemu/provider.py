"""QEMU as a provider of guests, which are boxes or bare hosts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deploys.errors import BoxError
from deploys.plan.sizes import EXTENT, round_up
from tasks.desk import shell
from tasks.desk.ssh_keys import Identity
from tasks.disks import box_disk
from tasks.guests import Order, Provider, bare, credentials, qemu
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine


def start(order: Order) -> qemu.Guest:
    """Make the guest if there is none, and start it if it is off.

    Raises:
        BoxError: this fails, or there is a guest that is not as wanted.
    """
    guest = qemu.Guest.find(order.directory)
    if guest is not None and order.bare and guest.is_box:
        raise BoxError(
            "there is a guest already, which is a box: remove it first, with inv destroy"
        )
    if guest is not None and order.in_file and len(guest.machine.disks) > 1:
        raise BoxError(
            "there is a guest already, which has a spare disk: remove it first, with inv destroy"
        )
    if guest is not None and guest.alive:
        return guest
    kernel = order.directory / "vmlinuz"
    if guest is None:
        machine, identity = (_bare if order.bare else _box)(order, kernel)
    else:
        machine, identity = guest.machine, guest.identity
    wanted = order.settings.guest
    resources = {"memory": wanted.memory, "cpus": wanted.cpus}
    accel = accelerator.choose(kernel, order.state, order.step)
    order.step(f"starting the guest on {accel.name}: {accel.reason}")
    return qemu.Guest.start(order.directory, machine.model_copy(update=resources), identity, accel)


def _box(order: Order, kernel: Path) -> tuple[Machine, Identity]:
    built = order.box_image()
    order.directory.mkdir(parents=True, exist_ok=True)
    # A hard link: the next build replaces the image under its name, and the guest keeps this one.
    base = order.directory / built.name
    base.unlink(missing_ok=True)
    try:
        os.link(built, base)
    except PermissionError:  # root made the image; for others the kernel links only their own
        order.step("copying the image")
        shell.run(["cp", built, base])
    box_disk.read_kernel(base, kernel)
    user = order.settings.image.user
    identity, given = credentials.make(order.directory, user, order.user_key)
    disk = bare.overlay(base, order.directory / "root.qcow2")
    return Machine(disks=(disk,), credentials=given), identity


def _bare(order: Order, kernel: Path) -> tuple[Machine, Identity]:
    order.step("making the base image")
    wanted = order.settings.guest
    # An eighth more than the file: a host keeps a part of its root free beside it.
    room = round_up(order.in_file * 9 // 8, EXTENT)
    base = bare.build(bare.Plain(wanted.disk_size + room), order.state, order.step)
    order.directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(base.kernel, kernel)
    root = bare.overlay(base.path, order.directory / "root.qcow2")
    if order.in_file:
        return Machine(disks=(root,)), base.identity
    spare = bare.empty_disk(order.directory / "spare.qcow2", wanted.spare_size)
    return Machine(disks=(root, spare)), base.identity


PROVIDER = Provider(
    name="qemu",
    title="QEMU",
    guest=qemu.Guest,
    start=start,
    programs={accelerator.QEMU: accelerator.PACKAGE, "qemu-img": "qemu-utils"},
    bare=True,
    finalizes=True,
)
