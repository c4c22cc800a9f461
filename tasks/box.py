"""The tasks on the local guest, and on the disk image of a box."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploys.errors import BoxError
from deploys.plan.sizes import human
from deploys.settings import Settings
from tasks.boxes.build import Build
from tasks.boxes.finalize import Finalizing
from tasks.boxes.image import build_box, is_replaceable
from tasks.boxes.ship import Packaging
from tasks.boxes.ship.formats import FORMATS, select
from tasks.boxes.start import SPARE, start
from tasks.desk.flags import SETTINGS_HELP, file_size, load_settings
from tasks.desk.places import BOX, GUEST, PACKAGES
from tasks.desk.progress import HostProgress, bars, exit_on_error, exit_on_interrupt, working
from tasks.desk.questions import confirm
from tasks.guests import Guest
from tasks.guests.providers import help_line, load
from tasks.hosts.connection import Host
from tasks.hosts.fleet import connected
from tasks.hosts.provision import REFERENCE, Provision, Provisioned, Request


@task(
    iterable=["set"],
    optional=["in_file"],
    help={
        **SETTINGS_HELP,
        "bare": "Start a plain Debian host, and provision it over SSH.",
        "in-file": "With --bare: one disk, the box in a file on it; guest.spare_size, or as 9G.",
        "provider": help_line(),
    },
)
def up(
    _c: Context,
    bare: bool = False,
    in_file: str | bool = "",
    provider: str = "",
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Start a box in a guest here, and run a calculation on it; build its image if need be."""
    if in_file and not bare:
        raise Exit("error: --in-file is for a bare host: say --bare too", code=1)
    chosen = load_settings(settings, set)
    size = file_size(in_file)
    wanted = 0 if size is None else size or chosen.guest.spare_size
    began = time.monotonic()
    with working("guest", interrupted="inv up goes on from here") as progress:
        guest = start(chosen, progress, bare=bare, provider=provider, in_file=wanted)
        result, calculation = _provisioned(guest, chosen, progress, wanted)
        progress.done("up")
    print(f"silicon     {calculation}")
    print(f"manifest    {result.manifest}")
    print(f"verdict     {result.state.verdict.name if result.state.verdict else 'none'}")
    print(f"status      {guest.page}")
    print("log in      bin/inv ssh")
    print(f"took        {time.monotonic() - began:.0f} s")


def _provisioned(
    guest: Guest, settings: Settings, progress: HostProgress, in_file: int
) -> tuple[Provisioned, str]:
    """Provision the guest; how that ended, and what the reference calculation printed."""
    host = connected(guest)
    try:
        progress.step("waiting for the guest to boot")
        host.wait(settings.boot.reboot_deadline)
        request = _request(host, in_file or settings.guest.spare_size)
        with host.locked("up"):
            result = Provision(host, settings, request, progress).run()
        if not settings.stack.has_reference:
            return result, "(no LAMMPS with models chosen)"
        progress.step("calculating silicon with LAMMPS and the KIM model")
        return result, host.run(REFERENCE).strip()
    finally:
        host.close()


def _request(host: Host, in_file: int) -> Request:
    """What makes the guest a box, if it is none: its spare disk, or a file of so many bytes."""
    if host.state().is_box:
        return Request()
    has_spare = host.run(f"ls {SPARE} 2>/dev/null || :")
    return Request(SPARE) if has_spare else Request(in_file=in_file)


@task(help={"command": "Run this instead of a shell."})
def ssh(_c: Context, command: str = "") -> None:
    """Log in to the local guest."""
    with exit_on_error():
        guest = load(GUEST)
        if not guest.alive:
            raise BoxError("the guest is off: start it with inv up")
        argv = guest.login.ssh_argv(*([command] if command else []))
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is ssh's from here on


@task
def halt(_c: Context) -> None:
    """Shut the local guest down."""
    with exit_on_error():
        guest = load(GUEST)
        if not guest.alive:
            print("the guest is off")
            return
        guest.halt()
    print("the guest is off; inv up starts it again")


@task(help={"force": "Do not ask."})
def destroy(_c: Context, force: bool = False) -> None:
    """Remove the local guest with all its data."""
    with exit_on_error():
        guest = load(GUEST)
    if not force:
        confirm("The guest and its data will be lost.")
    with exit_on_error():
        guest.destroy()
    print("the guest is gone")


@task(
    iterable=["set"],
    help={
        **SETTINGS_HELP,
        "out": f"File of the image; without it, {BOX.name} in the state folder.",
        "manifest": "A box's manifest.json: install exactly its versions.",
        "force": "Replace even an image that was finalized.",
    },
)
def build(
    _c: Context,
    out: str = "",
    manifest: str = "",
    force: bool = False,
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Make the disk image of a box from nothing, here, without a guest."""
    chosen = load_settings(settings, set)
    began = time.monotonic()
    versions = Path(manifest) if manifest else None
    with working("box", interrupted="no image was made or changed") as progress:
        if out:
            built = Build(chosen, Path(out), progress, versions).run()
        else:
            built = build_box(chosen, progress, versions, force=force)
        progress.done("built")
    print(f"image       {built.path}")
    print(f"size        {human(built.path.stat().st_size)}, of which {human(built.used)} are used")
    print(f"manifest    {built.state.release.get('MANIFEST', '')}")
    print(f"took        {time.monotonic() - began:.0f} s")


@task(
    help={
        "out": f"File of the image; without it, {BOX.name} in the state folder.",
        "force": "Do not ask before an image is replaced that cannot be built again.",
    }
)
def finalize(_c: Context, out: str = "", force: bool = False) -> None:
    """Make an image of the local guest, after you changed it in maintenance.

    The guest makes initrds, GRUB's entries, the project's files and the manifest anew, and powers
    off. Its disk is copied. The copy loses all SSH keys, the machine ID, histories, logs, caches
    and the content of /persistent, gets Vagrant's login back and is trimmed. The guest itself
    loses nothing; inv up starts it.
    """
    image = Path(out or BOX).absolute()
    began = time.monotonic()
    with exit_on_error():
        guest = load(GUEST)
    if not force and not is_replaceable(image):
        confirm(f"{image} will be replaced.")
    interrupted = "no image was made or changed; inv up starts the guest if it is off"
    with working("guest", interrupted) as progress:
        made = Finalizing(guest, image, progress).run()
        progress.done("finalized")
    print(f"image       {made.path}")
    print(f"size        {human(made.path.stat().st_size)}, of which {human(made.used)} are used")
    print(f"manifest    {made.state.release.get('MANIFEST', '')}")
    print("ship it     bin/inv box.package" + (f" --image {made.path}" if out else ""))
    print(f"took        {time.monotonic() - began:.0f} s")


@task(
    iterable=["set", "format"],
    help={
        **SETTINGS_HELP,
        "image": f"The disk image; without it, {BOX.name} in the state folder.",
        "out": f"Folder for the packages; without it, {PACKAGES.name} in the state folder.",
        "format": f"One of {', '.join(FORMATS)}, any number of times; without it, all.",
        "box-version": "Version of the box, as 1.2.0; without it, the setting package.version.",
        "force": "Replace the packages of this version that the folder has.",
    },
)
def package(
    _c: Context,
    image: str = "",
    out: str = "",
    format: Sequence[str] | None = None,  # noqa: A002 - the flag is --format
    box_version: str = "",
    force: bool = False,
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Pack a box's disk image for Vagrant, VirtualBox and QEMU, with a catalog."""
    version = [f"package.version={box_version}"] if box_version else []
    chosen = load_settings(settings, [*(set or ()), *version])
    began = time.monotonic()
    source, folder = Path(image or BOX), Path(out or PACKAGES)
    with exit_on_error(), exit_on_interrupt("no package was made or changed"), bars() as frame:
        progress = {name: HostProgress(name, frame) for name in select(format or ())}
        packaged = Packaging(source, folder, chosen, progress, force=force).run()
    for name, file in packaged.items():
        print(f"{name:<12}{file}, {human(file.stat().st_size)}")
    print(f"took        {time.monotonic() - began:.0f} s")
