"""The tasks on a gateway: who may connect boxes to it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from invoke.context import Context
from invoke.tasks import task

from deploys.errors import BoxError
from deploys.services.gateway import OWNERS
from tasks.desk import questions
from tasks.desk.progress import HostProgress, exit_on_error
from tasks.hosts import show
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_gateway, expect_snapshot
from tasks.hosts.fleet import enlist, finish

# What /usr/lib/gateway/owners takes: useradd's rule of Debian, without its exceptions.
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SHORTEST, _LONGEST = 8, 256  # PAM takes no more than 512 bytes


@dataclass(frozen=True)
class Owner:
    """An owner of boxes: his key's fingerprint, when it was made, and how many results he has."""

    name: str
    key: str
    made: datetime
    results: int


@dataclass(frozen=True)
class Owners:
    """A gateway's owners, and the fingerprint of the host key by which boxes know it."""

    host_key: str
    owners: tuple[Owner, ...]


def read_owners(host: Host) -> Owners:
    """Who has an account on a gateway.

    Raises:
        PreflightError: the host is none, or runs on no snapshot.
        DeployError, UnreachableError: see ``Host.run``.
    """
    state = host.state()
    expect_gateway(host, state)
    expect_snapshot(host, state)  # no account lasts on another root
    rows = [line.split() for line in host.run(f"{OWNERS} list").splitlines()]
    owners = tuple(
        Owner(name, key, datetime.fromtimestamp(int(made), UTC), int(results))
        for name, key, made, results in rows
    )
    return Owners(host.run(f"{OWNERS} hostkey").strip(), owners)


def checked_name(name: str) -> str:
    """The name of an owner, as it was given.

    Raises:
        BoxError: it can be none.
    """
    if name.startswith("-"):  # Invoke takes the word after such a task for its name
        raise BoxError("an owner's name comes first; inv --help adduser says what may follow")
    if not _NAME.fullmatch(name):
        raise BoxError(
            f"{name!r} cannot be an owner's name: write at most 32 of a-z, 0-9, _ and -, "
            "a letter or _ first"
        )
    return name


def read_password(name: str, descriptor: int) -> str:
    """An owner's new password: a line of an open file, or what is typed twice.

    Args:
        name: of the owner.
        descriptor: of the file; negative: asked for on the terminal.

    Raises:
        BoxError: there is none, it is too short or too long, or cannot be typed.
    """
    password = questions.password(f"password for {name}: ", descriptor, 2 * _LONGEST, new=True)
    if not _SHORTEST <= len(password) <= _LONGEST or not password.isprintable():
        raise BoxError(
            f"a password has {_SHORTEST} to {_LONGEST} characters, all of which can be printed"
        )
    return password


@task(
    post=[finish],
    help={
        "name": "Name of the account.",
        "force": "Give an account that exists a new password and a new key.",
        "password-fd": "Read the password from this open file instead of asking for it.",
    },
)
def adduser(c: Context, name: str, force: bool = False, password_fd: int = -1) -> None:
    """On a gateway: make an account for an owner of boxes, and a key for the boxes."""
    with exit_on_error():
        password = read_password(checked_name(name), password_fd)

    def work(host: Host, progress: HostProgress) -> Owners:
        progress.step("looking at the gateway")
        read_owners(host)
        progress.step("making the account")
        command = f"{OWNERS} add {name}{' --force' if force else ''}"
        host.run(command, stdin=f"{password}\n".encode())
        return read_owners(host)

    enlist(c, work, partial(_report, name=name))


@task(post=[finish], help={"name": "Name of the account."})
def deluser(c: Context, name: str) -> None:
    """On a gateway: end an owner's access at once; the results stay."""
    with exit_on_error():
        checked_name(name)

    def work(host: Host, progress: HostProgress) -> Owners:
        progress.step("looking at the gateway")
        read_owners(host)
        progress.step("removing the account")
        host.run(f"{OWNERS} remove {name}")
        return read_owners(host)

    enlist(c, work, partial(_report, name=""))


@task(post=[finish])
def users(c: Context) -> None:
    """On a gateway: show who has an account, and the gateway's host key."""

    def work(host: Host, progress: HostProgress) -> Owners:
        progress.step("asking")
        return read_owners(host)

    enlist(c, work, partial(_report, name=""))


def _report(results: Mapping[str, Owners], _failed: Collection[str], name: str) -> None:
    """All owners; or the one of ``name`` alone, who has just been made."""
    for gateway, found in results.items():
        rows = [
            (each.name, each.key, f"{each.made:%Y-%m-%d %H:%M}", str(each.results))
            for each in found.owners
            if name in ("", each.name)
        ]
        show.owners(gateway, rows, found.host_key)
