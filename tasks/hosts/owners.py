"""The owners of a pipeline's boxes: their accounts on the gateway, their names and passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from deploys.errors import BoxError
from deploys.services.gateway import OWNERS
from tasks.desk import questions
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_gateway, expect_snapshot

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


def add(host: Host, name: str, password: str, *, force: bool) -> None:
    """Make an owner's account; with ``force``, give the one that exists a new password and key.

    Raises:
        DeployError, UnreachableError: see ``Host.run``.
    """
    command = f"{OWNERS} add {name}{' --force' if force else ''}"
    host.run(command, stdin=f"{password}\n".encode())


def remove(host: Host, name: str) -> None:
    """Remove an owner's account; the results stay.

    Raises:
        DeployError, UnreachableError: see ``Host.run``.
    """
    host.run(f"{OWNERS} remove {name}")


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
