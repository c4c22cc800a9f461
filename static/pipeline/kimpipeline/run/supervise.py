"""Run a job to its end, within its limits of time and disk, and call the beat meanwhile."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from kimpipeline.errors import SandboxError
from kimpipeline.files import open_regular, scratch
from kimpipeline.run.sandbox.confined import Confined, Running, Sandbox
from kimpipeline.settings import Limits
from kimpipeline.waiting import ends_within

_BLOCK = 4096
_TIMES = "pipeline.times"
_SHELL = 'times=$1; shift; "$@"; code=$?; times >"$times"; exit "$code"'
_INTERVAL = 1.0  # seconds between two checks of a job


@dataclass(frozen=True)
class Ended:
    """How a job ended; ``fault`` is empty, or says in one line why it failed.

    ``seconds`` is the time that passed. ``cpu`` is the CPU time in seconds as the job's own shell
    measured it, so a hostile job can forge it; it is 0 if the job was killed.
    """

    fault: str
    seconds: float
    cpu: float


def supervise(
    sandbox: Sandbox,
    job: Confined,
    files: tuple[IO[bytes], IO[bytes], IO[bytes]],
    printed: Path,
    beat: Callable[[], None],
) -> Ended:
    """Run a job until it ends or has to be killed.

    Args:
        sandbox: starts the job.
        job: what to run.
        files: its stdin, stdout and stderr.
        printed: the folder of its stdout and stderr, which count towards its disk limit.
        beat: called about once a second, on this thread; what it raises ends the job.

    Raises:
        SandboxError: the job could not be started, or not be killed.
    """
    began = time.monotonic()
    try:
        running = sandbox.start(_with_times(job), *files)
    except OSError as error:
        raise SandboxError(f"{sandbox.name} could not start a job: {error.strerror}") from error
    looked = (printed,) if sandbox.holds_disk else (job.folder, printed)
    try:
        fault = _watch(running, job.limits, looked, beat, began + job.limits.seconds)
    except BaseException:
        running.kill()
        running.finish()
        raise
    if fault:
        running.kill()
    told = running.finish()
    seconds = time.monotonic() - began
    return Ended(fault or told, seconds, _cpu(job.folder / _TIMES))


def probe(sandbox: Sandbox) -> None:
    """Run a program that does nothing, once before the first job.

    systemd-run's exit code does not tell its own failure from that of a job. Without this test a
    job could pass itself off as a broken machine, and would be tried again for ever.

    Raises:
        SandboxError: this machine cannot run jobs.
    """
    with (
        scratch() as folder,
        (folder / "stderr").open("w+b") as said,
        Path(os.devnull).open("rb") as fed,
    ):
        room = sandbox.room(folder)
        room.mkdir()
        job = Confined(("true",), room, folder, Limits(seconds=60))
        ended = supervise(sandbox, job, (fed, said, said), folder, lambda: None)
        said.seek(0)
        line = said.read(1000).decode(errors="replace").strip().rpartition("\n")[2]
    if ended.fault:
        raise SandboxError(f"{sandbox.name} cannot run jobs: {line or ended.fault}")


def _watch(
    running: Running,
    limits: Limits,
    looked: Sequence[Path],
    beat: Callable[[], None],
    deadline: float,
) -> str:
    """Wait for the job's end; return why it must be killed, or an empty text."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return f"not done after {limits.seconds:g} s"
        if ends_within(running.process, min(left, _INTERVAL)):
            return ""
        beat()
        if sum(map(disk_usage, looked)) > limits.disk:
            return f"wrote more than {limits.disk} bytes"


def _with_times(job: Confined) -> Confined:
    """The job in a shell that measures its CPU time."""
    return replace(job, argv=("/bin/sh", "-c", _SHELL, "sh", str(job.folder / _TIMES), *job.argv))


def _cpu(path: Path) -> float:
    """The CPU seconds of a shell's children, as its ``times`` wrote them; 0 if it did not."""
    try:
        with open_regular(path) as file:
            lines = file.read(200).decode(errors="replace").splitlines()
    except OSError:
        return 0.0
    found = re.findall(r"(\d{1,6})m(\d{1,2}\.\d+)s", lines[1]) if len(lines) > 1 else []
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in found)


def disk_usage(folder: Path) -> int:
    """The bytes that a folder's files take on disk; files that vanish meanwhile do not count.

    If a part cannot be read, as paths are too long or closed, it is ``sys.maxsize``: no job can
    hide files there.
    """
    total, folders = 0, [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        # even an empty file takes an inode
                        size = entry.stat(follow_symlinks=False).st_blocks * 512
                        total += max(size, _BLOCK)
                    except FileNotFoundError:
                        continue
        except FileNotFoundError:
            continue
        except OSError:
            return sys.maxsize
    return total
