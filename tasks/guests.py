"""The local guest: made of the box's image or as a bare host, and started."""

from __future__ import annotations

import os
import shutil

from deploys.errors import BoxError
from deploys.settings import Settings
from tasks.boxes import box_image
from tasks.machines import accelerator, boxdisk, credentials, image, qemu, vboxmanage, virtualbox
from tasks.machines.guest import Guest
from tasks.machines.hardware import Machine
from tasks.machines.keys import Identity
from tasks.places import GUEST, STATE, USER_KEY
from tasks.progress import HostProgress

# Where a bare guest has its second disk; see tasks/machines/hardware.py.
SPARE = "/dev/vdb"
_KERNEL = GUEST / "vmlinuz"


def start(
    settings: Settings, progress: HostProgress, *, bare: bool = False, provider: str = ""
) -> Guest:
    """The local guest, running: made if there is none, powered on if it is off.

    A new one is the box of ``inv box.build``, or with ``bare`` a plain host with a spare disk.
    ``provider`` is qemu or virtualbox; empty: that of the guest that is here, else qemu.

    Raises:
        BoxError: it cannot be made or started, or the one that is here is another.
    """
    there = virtualbox.Guest.find(GUEST)
    here = "virtualbox" if there else "qemu" if qemu.Guest.find(GUEST) else ""
    wanted = provider or here or "qemu"
    if wanted not in ("qemu", "virtualbox"):
        raise BoxError(f"no provider is called {wanted!r}: it is qemu or virtualbox")
    if here and here != wanted:
        raise BoxError(
            f"the guest that is here is one of {here}: remove it first, with inv destroy"
        )
    if wanted == "qemu":
        return _in_qemu(settings, progress, bare=bare)
    if bare:
        raise BoxError("a bare host runs in QEMU alone: leave out --bare or say --provider qemu")
    return _in_virtualbox(there, settings, progress)


def _in_virtualbox(
    guest: virtualbox.Guest | None, settings: Settings, progress: HostProgress
) -> Guest:
    vboxmanage.run("--version")  # before minutes of building
    if guest is not None and not guest.made:
        guest.destroy()
        guest = None
    if guest is None:
        built = box_image(settings, progress)
        progress.step("making the guest in VirtualBox")
        guest = virtualbox.Guest.make(GUEST, built, settings.image.user, USER_KEY)
    if not guest.alive:
        progress.step("starting the guest in VirtualBox")
        guest.start(settings.guest.memory, settings.guest.cpus)
    progress.step("waiting for the guest's host key")
    guest.learn_host_key(settings.boot.reboot_deadline)
    return guest


def _in_qemu(settings: Settings, progress: HostProgress, *, bare: bool) -> Guest:
    guest = qemu.Guest.find(GUEST)
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
    return qemu.Guest.start(GUEST, machine.model_copy(update=resources), identity, accel)


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
