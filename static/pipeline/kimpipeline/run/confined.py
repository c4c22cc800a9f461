"""What all sandboxes share: what a job is, what it sees, its user, its environment."""

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

# Other users' files and the sockets of services.
_HIDDEN = ("/home", "/root", "/persistent", "/run")
# A job has its own of these: empty, in memory, of limited size.
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108 - private
    "OMP_NUM_THREADS": "1",  # there is a worker for each CPU, so a job has one
}


@dataclass(frozen=True)
class Confined:
    """What a sandbox runs; it starts in ``folder``, may write there, and may read ``items``."""

    argv: tuple[str, ...]
    folder: Path
    items: Path
    limits: Limits


class Running(Protocol):
    """A job that was started; ``process`` ends when the job does."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill all processes of the job, and return when they have ended."""


class Sandbox(Protocol):
    """Starts jobs shut in; ``name`` is for people and for the provenance of results."""

    name: str

    def start(
        self, job: Confined, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Running:
        """Start a job.

        Raises:
            SandboxError: this machine cannot run jobs.
        """


def find_program(program: str, package: str) -> str:
    """A program's path.

    Raises:
        SandboxError: it is not installed.
    """
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise SandboxError(f"{program} is not installed; Debian's package is {package}")
    return found


def chown_tree(folder: Path, user: str | None) -> None:
    """Make a job's user the owner of all in a folder; None: the owner stays."""
    if user is None:
        return
    entry = user_entry(user)
    for path, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(path, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def environment(folder: Path) -> dict[str, str]:
    """The whole environment of a job."""
    return {**_ENVIRONMENT, "HOME": str(folder)}


def hidden_folders() -> list[str]:
    """The folders on this machine whose content a job does not see."""
    return [name for name in _HIDDEN if Path(name).is_dir() and not Path(name).is_symlink()]


def user_entry(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise SandboxError(f"there is no user {name!r} to run jobs as") from error
