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
from tasks.guests import SPARE, start
from tasks.host import SETTINGS_HELP, load_settings
from tasks.machines.guest import Guest
from tasks.machines.providers import help_line, load
from tasks.places import GUEST
from tasks.progress import HostProgress, InterruptibleProgress, bars
from tasks.provisioning import REFERENCE, Provision, Provisioned, Request
from tasks.questions import confirm


@task(
    iterable=["set"],
    help={
        **SETTINGS_HELP,
        "bare": "Start a plain Debian host, and provision that over SSH.",
        "provider": help_line(),
    },
)
def up(
    _c: Context,
    bare: bool = False,
    provider: str = "",
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Start a box here, made from nothing if need be, and run a calculation on it."""
    chosen = load_settings(settings, set)
    began = time.monotonic()
    with one_line(), bars() as frame:
        progress = InterruptibleProgress("guest", frame)
        try:
            with progress.listening():
                guest = start(chosen, progress, bare=bare, provider=provider)
                result, calculation = _provisioned(guest, chosen, progress)
        except KeyboardInterrupt as interrupt:
            raise Exit("interrupted: inv up goes on from here", code=130) from interrupt
        progress.done("up")
    print(f"silicon     {calculation}")
    print(f"manifest    {result.manifest}")
    print(f"verdict     {result.state.verdict.name if result.state.verdict else 'none'}")
    print(f"status      {guest.page}")
    print("log in      bin/inv ssh")
    print(f"took        {time.monotonic() - began:.0f} s")


def _provisioned(
    guest: Guest, settings: Settings, progress: HostProgress
) -> tuple[Provisioned, str]:
    """The guest as a box that is up to date, and what its calculation printed."""
    host = connected(guest)
    try:
        progress.step("waiting for the guest to boot")
        host.wait(settings.boot.reboot_deadline)
        device = None if host.state().is_box else SPARE
        result = Provision(host, settings, Request(device), progress).run()
        if not settings.stack.has_reference:
            return result, "(no LAMMPS with models chosen)"
        progress.step("calculating silicon with LAMMPS and the KIM model")
        return result, host.run(REFERENCE).strip()
    finally:
        host.close()


@task(help={"command": "Run this instead of a shell."})
def ssh(_c: Context, command: str = "") -> None:
    """Log in to the local guest."""
    with one_line():
        guest = load(GUEST)
        if not guest.alive:
            raise BoxError("the guest is off: start it with inv up")
        argv = guest.login.ssh_argv(*([command] if command else []))
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is ssh's from here on


@task
def halt(_c: Context) -> None:
    """Power the local guest off in order."""
    with one_line():
        guest = load(GUEST)
        if not guest.alive:
            print("the guest is off")
            return
        guest.halt()
    print("the guest is off; inv up starts it again")


@task(help={"force": "Do not ask."})
def destroy(_c: Context, force: bool = False) -> None:
    """Remove the local guest with all its data."""
    with one_line():
        guest = load(GUEST)
    if not force:
        confirm("The guest and its data will be lost.")
    with one_line():
        guest.destroy()
    print("the guest is gone")
