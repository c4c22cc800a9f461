"""The owners of boxes: their accounts on the gateway, their names and passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from deploys.errors import BoxError, one_line
from deploys.services.gateway import OWNERS
from tasks.desk import questions
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_gateway_at_work

# The rule of /usr/lib/gateway/owners: that of Debian's useradd, without its exceptions.
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# The rule of /usr/lib/gateway/owners for OWNER.BOX.
_BOX = re.compile(_NAME.pattern + r"\.[a-z0-9][a-z0-9-]{0,26}")
_SHORTEST, _LONGEST = 8, 256  # PAM takes no more than 512 bytes


@dataclass(frozen=True)
class BoxKey:
    """A box of an owner: its key's fingerprint, when that came, and when it last asked for work."""

    name: str
    key: str
    made: datetime
    seen: datetime | None


@dataclass(frozen=True)
class Owner:
    """An owner of boxes: the key's fingerprint, the time it was made, the number of results.

    ``used`` and ``quota`` are bytes of the results; a quota of 0 is none.
    """

    name: str
    key: str
    made: datetime
    results: int
    used: int
    quota: int
    boxes: tuple[BoxKey, ...] = ()


@dataclass(frozen=True)
class Owners:
    """A gateway's owners, and the fingerprint of the host key by which boxes know it.

    ``note`` is a line about what was done, or empty.
    """

    host_key: str
    owners: tuple[Owner, ...]
    note: str = ""


def read_owners(host: Host) -> Owners:
    """Read who has an account on a gateway.

    Raises:
        PreflightError: the host is not a gateway, or does not run on a snapshot.
        DeployError, UnreachableError: see ``Host.run``.
    """
    expect_gateway_at_work(host)
    rows = [line.split() for line in host.run(f"{OWNERS} list").splitlines()]
    with host.parsing("its owners"):
        boxes = [_box(*row) for row in rows if "." in row[0]]
        owners = tuple(_owner(boxes, *row) for row in rows if "." not in row[0])
    return Owners(one_line(host.run(f"{OWNERS} hostkey")), owners)


def _box(name: str, key: str, made: str, seen: str) -> BoxKey:
    last = _time(seen) if int(seen) else None
    return BoxKey(name, key, _time(made), last)


def _time(seconds: str) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _owner(boxes: list[BoxKey], name: str, key: str, made: str, *numbers: str) -> Owner:
    # A gateway of an older version says the number of results only.
    results, used, quota = map(int, (*numbers, "0", "0") if len(numbers) == 1 else numbers)
    mine = tuple(each for each in boxes if each.name.startswith(f"{name}."))
    return Owner(name, key, _time(made), results, used, quota, mine)


def add(host: Host, name: str, password: str, *, force: bool) -> None:
    """Make an owner's account; with ``force``, give an existing one a new password and key.

    Raises:
        DeployError, UnreachableError: see ``Host.run``.
    """
    command = f"{OWNERS} add {name}{' --force' if force else ''}"
    host.run(command, stdin=f"{password}\n".encode())


def remove(host: Host, name: str) -> str:
    """Remove an owner's account, or what is left of it; the results stay.

    Returns:
        a line if there was no account, else nothing.

    Raises:
        DeployError, UnreachableError: see ``Host.run``.
    """
    return one_line(host.run(f"{OWNERS} remove {name}"))


def revoke(host: Host, box: str) -> None:
    """End the access of one box.

    Raises:
        DeployError, UnreachableError: see ``Host.run``; there is no such box.
    """
    host.run(f"{OWNERS} revoke {box}")


def checked_box(box: str) -> str:
    """Return a box's name, if it is one.

    Raises:
        BoxError: it is not.
    """
    if not _BOX.fullmatch(box):
        raise BoxError(f"{box!r} is no box: write OWNER.BOX, as users shows it")
    return box


def checked_name(name: str) -> str:
    """Return an owner's name, if it is allowed.

    Raises:
        BoxError: it is not.
    """
    if name.startswith("-"):  # Invoke takes the first word for the name, even a flag
        raise BoxError("the owner's name comes first, then flags: see inv --help adduser")
    if not _NAME.fullmatch(name):
        raise BoxError(
            f"{name!r} cannot be an owner's name: write at most 32 of a-z, 0-9, _ and -, "
            "a letter or _ first"
        )
    return name


def read_password(name: str, descriptor: int) -> str:
    """An owner's new password: a line of an open file, or what is typed twice.

    Args:
        name: of the owner, for the prompt.
        descriptor: of the open file; negative: ask on the terminal.

    Raises:
        BoxError: nothing can be read, or the password is too short, too long or not printable.
    """
    password = questions.password(f"password for {name}: ", descriptor, 2 * _LONGEST, new=True)
    if not _SHORTEST <= len(password) <= _LONGEST or not password.isprintable():
        raise BoxError(f"a password has {_SHORTEST} to {_LONGEST} printable characters")
    return password
