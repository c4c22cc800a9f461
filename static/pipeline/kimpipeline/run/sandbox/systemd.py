"""A sandbox made by systemd, which needs root: each job is a transient unit."""

from __future__ import annotations

import contextlib
import pwd
import re
import select
import subprocess
import time
import uuid
from pathlib import Path
from typing import IO

from typing_extensions import Self

from kimpipeline.errors import SandboxError
from kimpipeline.files import remove
from kimpipeline.run.sandbox import disk, unit
from kimpipeline.run.sandbox.cell import Cell
from kimpipeline.run.sandbox.confined import (
    Confined,
    Running,
    ask,
    chown_tree,
    environment,
    exit_fault,
    find_program,
)
from kimpipeline.settings import Limits

_DEADLINE = 40  # seconds; longer than the unit's own, TimeoutStopSec=
_SLICE = "system.slice"
_CGROUPS = Path("/sys/fs/cgroup")


class _Unit:
    """A job's unit, and the systemd-run that waits for it."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, limits: Limits) -> None:
        self.process = process
        self._name = name
        self._limits = limits

    def kill(self) -> None:
        _systemctl("kill", "--signal=KILL", self._name)
        try:
            self.process.wait(_DEADLINE)
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"{self._name} did not end after it was killed") from error

    def finish(self) -> str:
        code = self.process.wait()
        if not _is_empty(_CGROUPS / _SLICE / self._name, _DEADLINE):
            raise SandboxError(f"{self._name}: its processes do not end")
        return self._fault(code) if code else ""

    def _fault(self, code: int) -> str:
        """How a unit failed; systemd-run's exit code says it of one that exited only."""
        names = ("Result", "ExecMainStatus")
        told = _systemctl("show", f"--property={','.join(names)}", self._name)
        _systemctl("reset-failed", self._name)
        shown = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        result, status = (shown.get(name, "") for name in names)
        if result == "oom-kill":
            return f"took more than {self._limits.memory} bytes of memory"
        if result in ("signal", "core-dump"):
            return exit_fault(-int(status))
        return exit_fault(code)


class Systemd:
    """Runs jobs by systemd-run; within ``with`` it has a user and a disk for them.

    A job's unit is gone when it ends.
    """

    name = "systemd"
    holds_disk = True

    def __init__(self, cell: Cell, size: int) -> None:
        self._cell = cell
        self._size = size
        self._disk = cell.folder
        self._version = 0
        self._open = contextlib.ExitStack()

    @property
    def user(self) -> int:
        return self._cell.user

    def __enter__(self) -> Self:
        self._version = _version()
        _systemctl("stop", f"{self._cell.name}-*.service")  # of a command that was killed
        _systemctl("reset-failed", f"{self._cell.name}-*.service")
        _make_user(self._cell)
        self._disk = self._open.enter_context(disk.mounted(self._cell, self._size, unit.bound()))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def room(self, scratch: Path) -> Path:  # noqa: ARG002 - other sandboxes make it there
        for left in self._disk.iterdir():
            remove(left)
        return self._disk / "test"

    def argv(self, job: Confined, name: str) -> list[str]:
        """The command that starts a job as the unit of this name."""
        words = [find_program("systemd-run", "systemd"), "--quiet", "--pipe", "--wait"]
        words += [f"--unit={name}", f"--slice={_SLICE}", "--service-type=exec"]
        asked = unit.properties(job, self._cell.name, self._version)
        words += [f"--property={each}" for each in asked]
        words += [f"--setenv={name}={value}" for name, value in environment(job).items()]
        return [*words, "--", *job.argv]

    def start(
        self, job: Confined, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Running:
        chown_tree(job.folder, self.user)
        name = f"{self._cell.name}-{uuid.uuid4().hex}.service"
        process = subprocess.Popen(  # noqa: S603 - an argv list
            self.argv(job, name), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )
        return _Unit(process, name, job.limits)


def _is_empty(cgroup: Path, seconds: float) -> bool:
    """Whether a cgroup has no process within so many seconds.

    systemd 249 takes a unit for ended when those that it killed are about to end. The kernel tells
    of a change by POLLPRI (its cgroup-v2.rst, "cgroup.events").
    """
    deadline = time.monotonic() + seconds
    # systemd has removed it, or does now: it was empty
    with contextlib.suppress(OSError), (cgroup / "cgroup.events").open() as events:
        changes = select.poll()
        changes.register(events, select.POLLPRI)
        while "populated 1" in events.read():
            if not changes.poll(max(0, deadline - time.monotonic()) * 1000):
                return False
            events.seek(0)
    return True


def _systemctl(*words: str) -> str:
    """What systemctl printed; that a unit is not there any more is no error."""
    return ask("systemctl", "systemd", *words)[1]


def _version() -> int:
    found = re.match(r"systemd (\d+)", _systemctl("--version"))
    return int(found[1]) if found else 0


def _make_user(cell: Cell) -> None:
    """Make the user of a cell, if this boot has none yet; systemd knows users by name only.

    Raises:
        SandboxError: it cannot be made, or somebody else has its number.
    """
    with contextlib.suppress(KeyError):
        if pwd.getpwnam(cell.name).pw_uid == cell.user:
            return
    line = f'u {cell.name} {cell.user} "Jobs of the pipeline"'
    # by systemd, as a worker may not write to /etc
    words = ["--quiet", "--collect", "--pipe", "--wait", "systemd-sysusers", "--inline", line]
    complaint = ask("systemd-run", "systemd", *words)[2]
    try:
        if pwd.getpwnam(cell.name).pw_uid == cell.user:
            return
    except KeyError:
        raise SandboxError(f"no user {cell.name} could be made: {complaint}") from None
    raise SandboxError(f"the user {cell.name} has not the number {cell.user}")
