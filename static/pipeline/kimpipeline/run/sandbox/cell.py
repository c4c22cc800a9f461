"""What a process that root started has for its jobs alone: a number, a user, and a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kimpipeline.errors import SandboxError

# From 65536 to 99999 neither Debian (Policy 9.2.2; subuid(5)) nor systemd gives any user ID away.
_FIRST_USER = 66_000
_MOST = 1000


@dataclass(frozen=True)
class Cell:
    """``folder`` is root's; ``user`` is the user and group ID of the jobs."""

    number: int
    folder: Path

    @property
    def user(self) -> int:
        return _FIRST_USER + self.number

    @property
    def name(self) -> str:
        """The name of the user, where one is needed; the units of jobs begin with it."""
        return f"pipeline-job-{self.number}"


@contextlib.contextmanager
def taken(work: Path) -> Iterator[Cell]:
    """The first cell in the folder ``work`` that no other process has.

    Raises:
        SandboxError: there is none, or somebody else made that folder.
    """
    lock = None
    try:
        work.mkdir(parents=True, exist_ok=True)
        if work.lstat().st_uid != os.geteuid():
            raise SandboxError(f"{work} belongs to another user; remove it")
        for number in range(_MOST):
            folder = work / f"cell-{number}"
            folder.mkdir(exist_ok=True)
            lock = _locked(folder)
            if lock is not None:
                break
    except OSError as error:
        raise SandboxError(f"{work}: {error.strerror}") from error
    if lock is None:
        raise SandboxError(f"{work}: {_MOST} processes run jobs there")
    try:
        yield Cell(number, folder)
    finally:
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """A lock on a folder; None if another process has it."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
