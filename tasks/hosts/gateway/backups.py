"""Back up a gateway to a folder of this machine, and restore it on a new one.

A backup is a folder of a dump, an archive, and their digests as sha256sum(1) writes them. It has
password hashes and private keys: only its owner may read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploys.errors import BoxError
from deploys.services.gateway import BACKUP
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_gateway_at_work

# In this order: results arrive before their job is done.
_FILES = {"database.dump": "database", "files.tar": "files"}
_SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S+)")
_BLOCK = 2**20


@dataclass(frozen=True)
class Backup:
    """A whole backup, in its folder."""

    folder: Path

    @property
    def size(self) -> int:
        """How many bytes its files have."""
        return sum((self.folder / name).stat().st_size for name in _FILES)


def back_up(host: Host, to: Path, progress: HostProgress) -> Backup:
    """Copy what a gateway must not lose to a new folder in ``to``, while the gateway works.

    Raises:
        BoxError: the host is no gateway at work, or this machine could not write the copy.
        DeployError, UnreachableError: see ``Host.run``.
    """
    expect_gateway_at_work(host)
    target = to / f"{host.name.replace(':', '-')}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    # A half copy never has the name of a whole one.
    partial = target.with_name(f".{target.name}.partial")
    try:
        with _own_errors(to):
            to.mkdir(parents=True, exist_ok=True)
            partial.mkdir(mode=0o700)
        for name, words in _FILES.items():
            progress.step(f"copying {name}")
            with _own_errors(partial / name), _Copy(partial / name) as copy:
                host.run(f"{BACKUP} {words}", stdout=copy)
                copy.flush()
                os.fsync(copy.fileno())
        with _own_errors(partial):
            sums = "".join(f"{_digest(partial / name)}  {name}\n" for name in _FILES)
            (partial / _SUMS).write_text(sums)
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Backup(target)


def require_whole(backup: Path) -> None:
    """Require that a folder is a backup, and that nothing of it has changed.

    Raises:
        BoxError: it is none; the line says what is wrong.
    """
    with _own_errors(backup):
        if not (backup / _SUMS).is_file():
            raise BoxError(f"{backup} is no backup of a gateway: it has no {_SUMS}")
        found = _LINE.findall((backup / _SUMS).read_text(errors="replace"))
        digests = {name: digest for digest, name in found}
        for name in _FILES:
            if digests.get(name) != _digest(backup / name):
                raise BoxError(f"{backup / name} is not what was backed up: take another backup")


def restore(host: Host, backup: Path, progress: HostProgress) -> Backup:
    """Give a new gateway all that a backup has.

    When it fails, it may be said again: no account is let in before all is there.

    Raises:
        BoxError: the host is no gateway at work, or has accounts or jobs of its own.
        DeployError, UnreachableError: see ``Host.run``.
    """
    expect_gateway_at_work(host)
    host.run(f"{BACKUP} require-empty")
    for name, words in _FILES.items():
        progress.step(f"sending {name}")
        with _own_errors(backup / name), (backup / name).open("rb") as file:
            host.run(f"{BACKUP} take-{words}", stdin=file)
    return Backup(backup)


class _Copy(io.BufferedWriter):
    """A new file of what a host prints, which only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(io.FileIO(path, "xb", opener=lambda name, how: os.open(name, how, 0o600)))

    def write(self, data: Any) -> int:
        # who copies to it takes an OSError for one of the connection
        with _own_errors(self._path):
            return super().write(data)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    """An error of this machine's files is no error of the host."""
    try:
        yield
    except OSError as error:
        raise BoxError(f"{error.filename or path}: {error.strerror}") from error
