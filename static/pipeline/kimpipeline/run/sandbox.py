"""How a job is shut in. Two ways behind one interface: systemd's, and bubblewrap's.

Both: no network, a read-only filesystem with nobody's files in it, a private /tmp, an unprivileged
user, limits, and no process left when it ends. systemd limits the memory of the whole job, and is
used where root has it; bubblewrap limits that of each process, and needs neither root nor systemd.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from kimpipeline.errors import SandboxError
from kimpipeline.settings import Limits, Settings

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
_KILL_DEADLINE = 30  # seconds


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


def choose(settings: Settings, root: Path = Path("/")) -> Sandbox:
    """The sandbox that the settings name; for ``auto`` the one that the machine at ``root`` has.

    Raises:
        SandboxError: it does not have the one that they name.
    """
    able = os.geteuid() == 0 and _has_systemd(root)
    if settings.sandbox == "systemd" and not able:
        raise SandboxError(
            "systemd can shut jobs in only for root, where cgroup v2 has the"
            " memory and pids controllers"
        )
    if able and settings.sandbox != "bubblewrap":
        from kimpipeline.run.systemd import Systemd

        return Systemd(settings.job_user)
    return Bubblewrap(settings.job_user if os.geteuid() == 0 else None)


def _has_systemd(root: Path) -> bool:
    """Whether systemd runs there and can limit: it takes MemoryMax and TasksMax in any case, and
    without the controllers a job that forks without end has the whole machine.
    """
    try:
        controllers = (root / "sys/fs/cgroup/cgroup.controllers").read_text().split()
    except OSError:
        return False
    return (root / "run/systemd/system").is_dir() and {"memory", "pids"} <= set(controllers)


def find(program: str, package: str) -> str:
    """A program's path, or a SandboxError that names Debian's package."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise SandboxError(f"{program} is not installed; Debian's package is {package}")
    return found


def give(folder: Path, user: str | None) -> None:
    """Have a job's user own all in a folder; ``None``: it is this process's own."""
    if user is None:
        return
    entry = entry_of(user)
    for path, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            os.chown(Path(path, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def environment(folder: Path) -> dict[str, str]:
    """All of a job's environment."""
    return {**_ENVIRONMENT, "HOME": str(folder)}


def hidden() -> list[str]:
    """The folders, of those this machine has, that a job sees nothing of."""
    return [name for name in _HIDDEN if Path(name).is_dir() and not Path(name).is_symlink()]


def entry_of(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise SandboxError(f"there is no user {name!r} to run jobs as") from error


class _Wrapped:
    """A job in bubblewrap: when the first process of its namespace is gone, all are."""

    def __init__(self, process: subprocess.Popen[bytes], first: int | None) -> None:
        self.process = process
        self._first = first

    def kill(self) -> None:
        if self._first is None:
            return
        # bubblewrap ends its job with itself, but for one that it is just about to start
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        self.process.kill()
        waiting = select.poll()
        waiting.register(self._first, select.POLLIN)
        if not waiting.poll(_KILL_DEADLINE * 1000):
            raise SandboxError(f"a job did not end within {_KILL_DEADLINE} s of being killed")

    def __del__(self) -> None:
        if self._first is not None:
            os.close(self._first)


class Bubblewrap:
    """bubblewrap for the namespaces, resource limits for the rest."""

    name = "bubblewrap"

    def __init__(self, user: str | None) -> None:
        self.user = user

    def argv(self, job: Confined, information: int) -> list[str]:
        """The command that a job is started by; ``information`` is where bubblewrap reports."""
        folder, limits = str(job.folder), job.limits
        words: list[str] = []
        if self.user is not None:
            entry = entry_of(self.user)
            words += [find("setpriv", "util-linux"), f"--reuid={entry.pw_uid}"]
            words += [f"--regid={entry.pw_gid}", "--clear-groups", "--no-new-privs"]
        words += [find("bwrap", "bubblewrap"), "--unshare-all", "--unshare-user"]
        words += ["--disable-userns", "--die-with-parent", "--new-session"]
        words += ["--info-fd", str(information), "--ro-bind", "/", "/"]
        words += ["--dev", "/dev", "--proc", "/proc"]
        for name in hidden():
            words += ["--tmpfs", name]
        for name in SCRATCH:
            words += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", name]
        words += ["--ro-bind", str(job.items), str(job.items), "--bind", folder, folder]
        for name in ("/dev", *hidden()):
            words += ["--remount-ro", name]  # else memory to fill without a limit
        # within, where no other job's processes count
        words += ["--chdir", folder, "--", find("prlimit", "util-linux"), "--core=0"]
        words += [f"--as={limits.memory}", f"--fsize={limits.disk}", f"--nproc={limits.processes}"]
        return [*words, *job.argv]

    def start(
        self, job: Confined, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Running:
        give(job.folder, self.user)
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as information:
            try:
                process = subprocess.Popen(  # noqa: S603 - an argv list
                    self.argv(job, writer),
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=environment(job.folder),
                    pass_fds=(writer,),
                    start_new_session=True,
                )
            finally:
                os.close(writer)
            try:
                return _Wrapped(process, _open(json.loads(information.read())["child-pid"]))
            except (ValueError, KeyError, OSError) as error:
                process.kill()
                process.wait()
                line = Path(stderr.name).read_text(errors="replace")[-200:].strip()
                line = line.rpartition("\n")[2] or "without a word"
                raise SandboxError(f"bubblewrap could not shut a job in: {line}") from error


def _open(process: int) -> int | None:
    """A process's file descriptor; None if it has ended already."""
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None
