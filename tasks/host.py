"""The tasks on a host: ``fab -H HOST TASK``; or on the local guest: ``inv TASK``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import get_args

import fabric
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploys.box import ROLES
from deploys.facts.state import HostState
from deploys.operations.seal import cleaned
from deploys.settings import Role
from tasks.desk.flags import SETTINGS_HELP, file_size, load_settings
from tasks.desk.places import GUEST
from tasks.desk.progress import HostProgress, exit_on_error
from tasks.desk.questions import confirm
from tasks.guests.providers import load
from tasks.hosts import securing, show, status_tables, versions
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect, reboot_deadline, settings_of, state_of_box
from tasks.hosts.fleet import Work, enlist, enlist_asking, finish
from tasks.hosts.provision import Provision, Provisioned, Request
from tasks.hosts.securing import Part, confirm_host_key, read_password, require_part
from tasks.hosts.shrink import Shrunk, shrink_box
from tasks.hosts.versions import unprovision as ways_back


@task(
    post=[finish],
    iterable=["set"],
    optional=["in_file"],
    help={
        **SETTINGS_HELP,
        "role": f"{' or '.join(get_args(Role))}; without it, as the box is; a new one: devel.",
        "device": "An empty disk, as /dev/vdb; needed unless the root is on LVM with free space.",
        "in-file": "Make the box in a file on the root, as large as it needs, or as 40G.",
        "force": "Wipe the data on --device; do not ask before --reclaim.",
        "reclaim": "Erase the old root, and give its partition to the volume group.",
        "dry-run": "Show what would be done; change nothing.",
    },
)
def provision(
    c: Context,
    device: str = "",
    in_file: str | bool = "",
    force: bool = False,
    reclaim: bool = False,
    dry_run: bool = False,
    role: str = "",
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Make a host a box that resets its root at boot, or bring a box up to date."""
    chosen = load_settings(settings, [*(set or ()), *([f"role={role}"] if role else [])])
    if reclaim and not (force or dry_run):
        confirm("The system as it was before the box will be erased.")
    request = Request(device or None, force, reclaim, file_size(in_file))

    def work(host: Host, progress: HostProgress) -> Provisioned | list[tuple[str, str, str]]:
        provision = Provision(host, chosen, request, progress)
        return provision.plan() if dry_run else provision.run()

    if dry_run:
        enlist(c, work, show.plans)
    else:
        enlist(c, work, show.provisioned, locks="provision")


@task(
    post=[finish],
    help={
        "wipe": "Also erase the disk that the box is on; without it, that stays as it is.",
        "force": "Do not ask.",
        "dry-run": "Show what would go; change nothing.",
    },
)
def unprovision(c: Context, wipe: bool = False, force: bool = False, dry_run: bool = False) -> None:
    """Give a host back: it boots its old root, and what made it a box goes."""
    if dry_run:
        enlist(c, partial(ways_back.plan, wipe=wipe), show.plans)
        return

    def ask(hosts: Sequence[Host]) -> Work:
        if not force:
            confirm(ways_back.losses(hosts, wipe=wipe))
        return partial(ways_back.unprovision, wipe=wipe)

    enlist_asking(c, ask, show.lines, locks="unprovision")


@task(
    post=[finish],
    help={
        "json": "Print JSON, for programs.",
        "wide": "Print all fields, one line for each host, however long: pipe it to less -S.",
    },
)
def status(c: Context, json: bool = False, wide: bool = False) -> None:
    """Show a box's faults, its last reset's verdict, the snapshot's fill, kernel and manifest."""
    if json and wide:
        raise Exit("error: --json prints all fields: leave out --wide")

    def work(host: Host, progress: HostProgress) -> HostState:
        progress.step("asking")
        return host.state()

    enlist(c, work, status_tables.as_json if json else partial(status_tables.tables, wide=wide))


@task(post=[finish])
def resnap(c: Context) -> None:
    """Reboot into a fresh snapshot; wait for it, and check the verdict."""
    enlist(c, partial(_reboot, entry="resnap", verdict="fresh"), show.reboots, locks="resnap")


@task(post=[finish])
def keep(c: Context) -> None:
    """Reboot into the snapshot as it is; it keeps all its changes."""
    enlist(c, partial(_reboot, entry="keep", verdict="kept"), show.reboots, locks="keep")


@task(post=[finish], help={"back": "Leave maintenance: reboot into a fresh snapshot."})
def maintain(c: Context, back: bool = False) -> None:
    """Reboot into the golden root, to change what every fresh snapshot starts from."""
    entry, verdict = ("resnap", "fresh") if back else ("maintenance", "golden")
    enlist(c, partial(_reboot, entry=entry, verdict=verdict), show.reboots, locks="maintain")


@task(
    post=[finish],
    help={
        "to": "First digits of the version's manifest; without it, the last version.",
        "list": "List the versions; change nothing.",
        "force": "Do not ask.",
    },
)
def rollback(c: Context, to: str = "", list: bool = False, force: bool = False) -> None:  # noqa: A002 - the flag is --list
    """Go back to an earlier version of the golden root, or undo a change that is being tried."""
    if list:
        enlist(c, lambda host, _: versions.versions(host), show.versions)
        return
    if not force:
        confirm("The golden root as it is now will be lost; /persistent stays.")
    enlist(c, partial(versions.roll_back, to=to), show.reboots, locks="rollback")


@task(post=[finish])
def promote(c: Context) -> None:
    """Make the snapshot, with all its changes, the golden root; the box first tries it."""
    enlist(c, versions.promote, show.reboots, locks="promote")


@task(post=[finish], help={"force": "Do not ask."})
def finalize(c: Context, force: bool = False) -> None:
    """End a change made in maintenance: clean up, write the manifest, boot a fresh snapshot.

    It makes initrds, GRUB's entries, the project's files and the manifest anew. It removes
    histories, logs, caches and temporary files. SSH keys, machine ID and /persistent stay.
    For the local guest, say inv box.finalize.
    """
    if not isinstance(c, fabric.Connection):
        raise Exit("error: say fab -H HOST finalize, or inv box.finalize for the guest", code=1)
    if not force:
        confirm(
            f"Histories and caches of all users, logs and temporary files will be removed from "
            f"the golden root of {c.host}; SSH keys, machine ID and /persistent stay."
        )

    def work(host: Host, progress: HostProgress) -> HostState:
        progress.step("looking at the host")
        provision = Provision(host, settings_of(host), Request(), progress)
        tidy = partial(cleaned, name="Remove histories, caches and logs")
        provision.finalize(tidy, maintain=f"fab -H {host.name} maintain", history=True)
        return _reboot(host, progress, entry="resnap", verdict="fresh")

    enlist(c, work, show.reboots, locks="finalize")


@task(
    post=[finish],
    help={
        "role": f"{' or '.join(ROLES)}; devel only fetches a key, and shuts nothing off.",
        "site": "The gateway, as HOST or HOST:PORT.",
        "username": "Your account on the gateway.",
        "host-key": "Host key of the gateway, as SHA256:...; without it, you confirm the key.",
        "password-fd": "Read the password from this open file instead of asking for it.",
    },
)
def secure(
    c: Context,
    role: str = "",
    site: str = "",
    username: str = "",
    host_key: str = "",
    password_fd: int = -1,
) -> None:
    """Make a devel box a worker or a director, and shut it off from the outside, for good."""
    part = Part(role, site, username)
    with exit_on_error():
        require_part(part)

    def ask(hosts: Sequence[Host]) -> Work:
        key = host_key or confirm_host_key(hosts, site)
        password = read_password(part, password_fd)
        return partial(securing.secure, part=part, host_key=key, password=password)

    enlist_asking(c, ask, show.lines, locks="secure")


@task(post=[finish])
def shrink(c: Context) -> None:
    """Give the space of deleted files back to the disk; for the local guest, to this machine."""

    def work(host: Host, progress: HostProgress) -> Shrunk:
        guest = None if isinstance(c, fabric.Connection) else load(GUEST)
        return shrink_box(host, guest, progress)

    enlist(c, work, show.shrunk, locks="shrink")


def _reboot(host: Host, progress: HostProgress, *, entry: str, verdict: str) -> HostState:
    progress.step("looking at the host")
    state_of_box(host)
    progress.step(f"rebooting: {entry}")
    state = host.reboot(entry, reboot_deadline(host))
    expect(host, state, verdict)
    return state
