"""What any sandbox makes of a job: what it sees, its user, its environment."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from kimpipeline.errors import SandboxError
from kimpipeline.settings import Limits

# Other users' files, and the sockets of services: a job has nothing to look for there.
_HIDDEN = ("/home", "/root", "/persistent", "/run")
# Its own, empty, in memory, of a limited size.
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108 - private
    "OMP_NUM_THREADS": "1",  # a worker for each CPU: a job has one
}


@dataclass(frozen=True)
class Confined:
    """A program, the folder it starts and may write in, the folder it may read, its limits."""

    argv: tuple[str, ...]
    folder: Path
    items: Path
    limits: Limits


class Running(Protocol):
    """A job that was started; ``process`` ends when it does."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End all its processes, and return when they have ended."""


class Sandbox(Protocol):
    name: str

    def start(
        self, job: Confined, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Running:
        """Start a job; a SandboxError if this machine cannot."""


def find_program(program: str, package: str) -> str:
    """A program's path, or a SandboxError that names Debian's package."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise SandboxError(f"{program} is not installed; Debian's package is {package}")
    return found


def chown_tree(folder: Path, user: str | None) -> None:
    """Have a job's user own all in a folder; ``None``: it is this process's own."""
    if user is None:
        return
    entry = user_entry(user)
    for path, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(path, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def environment(folder: Path) -> dict[str, str]:
    """All of a job's environment."""
    return {**_ENVIRONMENT, "HOME": str(folder)}


def hidden_folders() -> list[str]:
    """The folders, of those this machine has, that a job sees nothing of."""
    return [name for name in _HIDDEN if Path(name).is_dir() and not Path(name).is_symlink()]


def user_entry(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise SandboxError(f"there is no user {name!r} to run jobs as") from error
