"""What all sandboxes share: what a job is, what it sees, its user, its environment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
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
_PATIENCE = 60  # seconds; longer than a unit's stop takes


@dataclass(frozen=True)
class Confined:
    """What a sandbox runs; it starts in ``folder``, may write there, and may read ``items``.

    It may read the folders ``more`` too, and has ``variables`` beside those that all have.
    """

    argv: tuple[str, ...]
    folder: Path
    items: Path
    limits: Limits
    more: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[Path, ...]:
        """The folders that it may read."""
        return (self.items, *self.more)


class Running(Protocol):
    """A job that was started; ``process`` ends when the job does."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill all processes of the job, and return when they have ended."""

    def finish(self) -> str:
        """Wait for the job's end; say in one line why it failed, or nothing.

        Raises:
            SandboxError: a process of the job has not ended.
        """


class Sandbox(Protocol):
    """Starts jobs shut in.

    ``name`` is for people and for the provenance of results. ``user`` is the user and group ID of
    jobs; None: this process's own. ``holds_disk`` says that the kernel holds a job to the limit of
    its disk.
    """

    name: str
    holds_disk: bool

    @property
    def user(self) -> int | None: ...

    def room(self, scratch: Path) -> Path:
        """Where the folder of the next job is to be made; ``scratch`` is an empty folder."""

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


def ask(program: str, package: str, *words: str) -> tuple[int, str, str]:
    """Run a program of the system; its exit code, what it printed, and its last complaint.

    Raises:
        SandboxError: it is not installed, or does not end.
    """
    argv = [find_program(program, package), *words]
    try:
        done = subprocess.run(  # noqa: S603 - an argv list
            argv, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"{program} did not end within {_PATIENCE} s") from error
    return done.returncode, done.stdout, done.stderr.strip().rpartition("\n")[2]


def chown_tree(folder: Path, user: int | None) -> None:
    """Make a job's user the owner of all in a folder, and nobody else enter it."""
    folder.chmod(0o700)
    if user is None:
        return
    for path, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(path, name), user, user, follow_symlinks=False)


def environment(job: Confined) -> dict[str, str]:
    """The whole environment of a job."""
    return {**_ENVIRONMENT, "HOME": str(job.folder), **job.variables}


def hidden_folders() -> list[str]:
    """The folders on this machine whose content a job does not see."""
    return [name for name in _HIDDEN if Path(name).is_dir() and not Path(name).is_symlink()]


def exit_fault(code: int) -> str:
    """What an exit code says, in one line; empty if all was well."""
    if code == 0:
        return ""
    # a shell and bubblewrap report a signal as 128 plus its number
    number = -code if code < 0 else code - 128
    killed = number in signal.valid_signals()
    return f"ended by signal {number}" if killed else f"failed with exit code {code}"
