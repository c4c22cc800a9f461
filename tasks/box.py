"""The tasks on the local guest: start it, log in, power it off, remove it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploys.errors import BoxError
from deploys.settings import Settings
from tasks.fleet import connected, one_line
from tasks.host import SETTINGS_HELP, load_settings
from tasks.machines import accelerator, image
from tasks.machines.hardware import Machine
from tasks.machines.qemu import Guest
from tasks.places import GUEST, STATE
from tasks.progress import HostProgress, bars
from tasks.provisioning import REFERENCE, Provision, Request

# Where a guest has its second disk; see tasks/machines/qemu.py.
_SPARE = "/dev/vdb"


@task(iterable=["set"], help=SETTINGS_HELP)
def up(_c: Context, set: Sequence[str] | None = None, settings: str = "") -> None:  # noqa: A002
    """Start a plain Debian guest here, make it a box, and run a calculation on it."""
    chosen = load_settings(settings, set)
    began = time.monotonic()
    with one_line(), bars() as frame:
        progress = HostProgress("guest", frame)
        guest = start(chosen, progress)
        host = connected(guest)
        try:
            progress.step("waiting for the guest to boot")
            host.wait(chosen.boot.reboot_deadline)
            device = None if host.state().is_box else _SPARE
            result = Provision(host, chosen, Request(device), progress).run()
            progress.step("calculating silicon with LAMMPS and the KIM model")
            has_lammps = "lammps" in chosen.stack.packages
            calculation = host.run(REFERENCE).strip() if has_lammps else "(lammps not chosen)"
        finally:
            host.close()
        progress.done("up")
    print(f"silicon     {calculation}")
    print(f"manifest    {result.manifest}")
    print(f"verdict     {result.state.verdict.name if result.state.verdict else 'none'}")
    print("log in      bin/inv ssh")
    print(f"took        {time.monotonic() - began:.0f} s")


def start(settings: Settings, progress: HostProgress) -> Guest:
    """The local guest, running: made if there is none, powered on if it is off.

    Raises:
        BoxError: it cannot be made or started.
    """
    progress.step("making the base image")
    recipe = image.Recipe("plain", disk_size=settings.guest.disk_size)
    base = image.build(recipe, STATE, progress.step)
    accel = accelerator.choose(base.kernel, STATE, progress.step)
    guest = Guest.find(GUEST)
    if guest is not None and guest.alive:
        return guest
    if guest is not None:
        # its disks are of the image that was the newest then
        disks, identity = guest.machine.disks, guest.identity
    else:
        GUEST.mkdir(parents=True, exist_ok=True)
        root = image.overlay(base.path, GUEST / "root.qcow2")
        spare = image.empty_disk(GUEST / "spare.qcow2", settings.guest.spare_size)
        disks, identity = (root, spare), base.identity
    progress.step(f"starting the guest on {accel.name}: {accel.reason}")
    machine = Machine(disks=disks, memory=settings.guest.memory, cpus=settings.guest.cpus)
    return Guest.start(GUEST, machine, identity, accel)


@task(help={"command": "Run this instead of a shell."})
def ssh(_c: Context, command: str = "") -> None:
    """Log in to the local guest."""
    with one_line():
        guest = Guest.load(GUEST)
        if not guest.alive:
            raise BoxError("the guest is off: start it with inv up")
        argv = guest.login.ssh_argv(*([command] if command else []))
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is ssh's from here on


@task
def halt(_c: Context) -> None:
    """Power the local guest off in order."""
    with one_line():
        guest = Guest.load(GUEST)
        if not guest.alive:
            print("the guest is off")
            return
        guest.halt()
    print("the guest is off; inv up starts it again")


@task(help={"force": "Do not ask."})
def destroy(_c: Context, force: bool = False) -> None:
    """Remove the local guest with all its data."""
    with one_line():
        guest = Guest.load(GUEST)
    if not force:
        if not sys.stdin.isatty():
            raise Exit("error: the guest and its data would be lost: say --force", code=1)
        if input("The guest and its data will be lost. Go on? [y/N] ").strip().lower() != "y":
            raise Exit("nothing was changed", code=1)
    guest.destroy()
    print("the guest is gone")
