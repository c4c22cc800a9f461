"""Keeps a box's place in a pipeline in /persistent: how it reaches its gateway, and its role.

PIPELINE_ROOT: a directory that stands for / (for tests; not set on a box).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
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
    same = _data(_KEYS / "site") == _site(site).encode()
    words = (_data(_KEYS / "known_hosts") or b"").split()
    return words[2].decode(errors="replace") if same and len(words) == 3 else ""


@contextlib.contextmanager
def undone_on_failure() -> Iterator[None]:
    """Put key, site and role back as they were if the block fails."""
    kept = () if _KEYS.is_symlink() else _KEYS.glob("*")
    read = {file: _data(file) for file in (*kept, _ROLE)}
    had = {file: content for file, content in read.items() if content is not None}
    try:
        yield
    except BaseException:
        _remove(_KEYS)
        _remove(_ROLE)
        for folder in {file.parent for file in had}:
            _own_folder(folder)
            here = {file.name: content for file, content in had.items() if file.parent == folder}
            _write(folder, here, 0o600 if folder == _KEYS else 0o644)
        for folder in filter(Path.is_dir, (_KEYS.parent, _ROLE.parent)):
            _sync(folder)
        raise


def keep_key(site: Site, host_key: paramiko.PKey, key: bytes) -> None:
    """Keep a key and its site: both or nothing, whenever the power fails."""
    known = f"gateway {host_key.get_name()} {host_key.get_base64()}\n"
    new, old = _KEYS.with_name("ssh.new"), _KEYS.with_name("ssh.old")
    _own_folder(_KEYS.parent, 0o755)
    if old.exists() and not os.path.lexists(_KEYS):  # a power cut
        old.rename(_KEYS)
    for left in (new, old):
        _remove(left)
    _own_folder(new)
    _write(new, {"id_ed25519": key, "known_hosts": known.encode(), "site": _site(site).encode()})
    if os.path.lexists(_KEYS):
        _KEYS.rename(old)
    new.rename(_KEYS)
    _sync(_KEYS.parent)
    _remove(old)


def keep_role(role: str, site: Site, username: str) -> None:
    """Keep the role that runsecure gives the box again after each reset."""
    _own_folder(_ROLE.parent, 0o755)
    part = _ROLE.with_name("runsecure.new")
    _remove(part)
    _write(_ROLE.parent, {part.name: f"{role}\n{site}\n{username}\n".encode()}, 0o644)
    if _ROLE.is_dir():
        _remove(_ROLE)
    part.replace(_ROLE)
    _sync(_ROLE.parent)


def _site(site: Site) -> str:
    return f"HostName {site.host}\nPort {site.port}\n"


# What lies in /persistent may be of somebody who was root before a reset: as in provisiond/data.sh.


def _data(path: Path, largest: int = 16384) -> bytes | None:
    """A plain file of root's that nobody else can write; None if there is no such file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            ours = stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid()
            if not ours or state.st_mode & 0o022 or state.st_size > largest:
                return None
            return file.read(largest)
    except OSError:
        return None


def _own_folder(folder: Path, mode: int = 0o700) -> None:
    """Have a folder of root's there, where nobody else writes; what is no folder is removed."""
    if folder.is_dir() and not folder.is_symlink():
        os.chown(folder, os.geteuid(), -1)
        folder.chmod(folder.stat().st_mode & 0o755)
    else:
        _remove(folder)
        folder.mkdir(mode, parents=True)


def _remove(path: Path) -> None:
    """Remove a file or a folder with all in it, if it is there; follow no link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
