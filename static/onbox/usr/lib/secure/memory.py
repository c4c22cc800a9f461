"""Keeps a box's place in a pipeline in /persistent: how it reaches its gateway, and its role.

PIPELINE_ROOT: a directory that stands for / (for tests; not set on a box).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import paramiko
from site_keys import RefusedError, Site

_ROOT = Path(os.environ.get("PIPELINE_ROOT", "/"))
_KEYS = _ROOT / "persistent/pipeline/ssh"  # as /etc/pipeline/ssh_config has it
_ROLE = _ROOT / "persistent/settings/runsecure"
RUNSECURE = _ROOT / "usr/lib/provisiond/runsecure"
_ROLES = RUNSECURE.with_name("roles")  # each with its units, for runsecure
_IN_SNAPSHOT = _ROOT / "run/resnap/in-snapshot"


def in_snapshot() -> bool:
    """Whether the root is a snapshot, fresh or kept."""
    return _IN_SNAPSHOT.exists()


def roles() -> tuple[str, ...]:
    """The roles that ``secure`` can give this box.

    Raises:
        RefusedError: the file that lists them cannot be read.
    """
    try:
        return tuple(line.split()[0] for line in _ROLES.read_text().splitlines())
    except OSError as error:
        raise RefusedError(f"{_ROLES}: {error.strerror}: provision this box again") from error


def known_key(site: Site) -> str:
    """The confirmed host key of a site, in the form of known_hosts; empty if there is none."""
    try:
        same = (_KEYS / "site").read_text() == _site(site)
        words = (_KEYS / "known_hosts").read_text().split()
    except OSError:
        return ""
    return words[2] if same and len(words) == 3 else ""


@contextlib.contextmanager
def undone_on_failure() -> Iterator[None]:
    """Put key, site and role back as they were if the block fails."""
    had = {file: file.read_bytes() for file in (*_KEYS.glob("*"), _ROLE) if file.is_file()}
    try:
        yield
    except BaseException:
        shutil.rmtree(_KEYS, ignore_errors=True)
        _ROLE.unlink(missing_ok=True)
        for folder in {file.parent for file in had}:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            here = {file.name: content for file, content in had.items() if file.parent == folder}
            _write(folder, here, 0o600 if folder == _KEYS else 0o644)
        for folder in filter(Path.is_dir, (_KEYS.parent, _ROLE.parent)):
            _sync(folder)
        raise


def keep_key(site: Site, host_key: paramiko.PKey, key: bytes) -> None:
    """Keep a key and its site: both or nothing, whenever the power fails."""
    known = f"gateway {host_key.get_name()} {host_key.get_base64()}\n"
    new, old = _KEYS.with_name("ssh.new"), _KEYS.with_name("ssh.old")
    if old.exists() and not _KEYS.exists():  # a power cut
        old.rename(_KEYS)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(mode=0o700, parents=True)
    _write(new, {"id_ed25519": key, "known_hosts": known.encode(), "site": _site(site).encode()})
    if _KEYS.exists():
        _KEYS.rename(old)
    new.rename(_KEYS)
    _sync(_KEYS.parent)
    shutil.rmtree(old, ignore_errors=True)


def keep_role(role: str, site: Site, username: str) -> None:
    """Keep the role that runsecure gives the box again after each reset."""
    _ROLE.parent.mkdir(parents=True, exist_ok=True)
    part = _ROLE.with_name("runsecure.new")
    part.unlink(missing_ok=True)
    _write(_ROLE.parent, {part.name: f"{role}\n{site}\n{username}\n".encode()}, 0o644)
    part.replace(_ROLE)
    _sync(_ROLE.parent)


def _site(site: Site) -> str:
    return f"HostName {site.host}\nPort {site.port}\n"


def _write(folder: Path, files: Mapping[str, bytes], mode: int = 0o600) -> None:
    for name, content in files.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
