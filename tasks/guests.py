"""The local guest: made of the box's image or as a bare host, and started."""

from __future__ import annotations

import os
import shutil

from deploys.errors import BoxError
from deploys.settings import Settings
from tasks.boxes import box_image
from tasks.machines import accelerator, boxdisk, credentials, image
from tasks.machines.hardware import Machine
from tasks.machines.keys import Identity
from tasks.machines.qemu import Guest
from tasks.places import GUEST, STATE, USER_KEY
from tasks.progress import HostProgress

# Where a bare guest has its second disk; see tasks/machines/hardware.py.
SPARE = "/dev/vdb"
_KERNEL = GUEST / "vmlinuz"


def start(settings: Settings, progress: HostProgress, *, bare: bool = False) -> Guest:
    """The local guest, running: made if there is none, powered on if it is off.

    A new one is the box of ``inv box.build``, or with ``bare`` a plain host with a spare disk.

    Raises:
        BoxError: it cannot be made or started, or the one that is here is no bare host.
    """
    guest = Guest.find(GUEST)
    if guest is not None and bare and guest.machine.credentials:
        raise BoxError("the guest that is here is a box: remove it first, with inv destroy")
    if guest is not None and guest.alive:
        return guest
    if guest is None:
        machine, identity = (_bare if bare else _box)(settings, progress)
    else:
        machine, identity = guest.machine, guest.identity
    resources = {"memory": settings.guest.memory, "cpus": settings.guest.cpus}
    accel = accelerator.choose(_KERNEL, STATE, progress.step)
    progress.step(f"starting the guest on {accel.name}: {accel.reason}")
    return Guest.start(GUEST, machine.model_copy(update=resources), identity, accel)


def _box(settings: Settings, progress: HostProgress) -> tuple[Machine, Identity]:
    built = box_image(settings, progress)
    GUEST.mkdir(parents=True, exist_ok=True)
    # A link: another build takes the name of this image, the guest keeps the bytes.
    base = GUEST / built.name
    base.unlink(missing_ok=True)
    os.link(built, base)
    boxdisk.read_kernel(base, _KERNEL)
    identity, given = credentials.make(GUEST, settings.image.user, USER_KEY)
    disk = image.overlay(base, GUEST / "root.qcow2")
    return Machine(disks=(disk,), credentials=given), identity


def _bare(settings: Settings, progress: HostProgress) -> tuple[Machine, Identity]:
    progress.step("making the base image")
    recipe = image.Recipe("plain", disk_size=settings.guest.disk_size)
    base = image.build(recipe, STATE, progress.step)
    GUEST.mkdir(parents=True, exist_ok=True)
    shutil.copy(base.kernel, _KERNEL)
    root = image.overlay(base.path, GUEST / "root.qcow2")
    spare = image.empty_disk(GUEST / "spare.qcow2", settings.guest.spare_size)
    return Machine(disks=(root, spare)), base.identity
