"""A job from its start to its end: its limits of time and disk, and the beat meanwhile."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kimpipeline.sandbox import Job, Running, Sandbox

_BLOCK = 4096
_LOOK = 1.0  # seconds between two looks at what a job has written


@dataclass(frozen=True)
class Ended:
    """How a job ended: ``fault`` is empty, or one line that says why it failed.

    Times are in seconds, ``memory`` (bytes) is of the largest process; with systemd, which starts
    the job elsewhere, ``cpu`` and ``memory`` are 0.
    """

    fault: str
    seconds: float
    cpu: float
    memory: int


def supervise(
    sandbox: Sandbox,
    job: Job,
    files: tuple[IO[bytes], IO[bytes], IO[bytes]],
    printed: Path,
    beat: Callable[[], None],
) -> Ended:
    """Run a job to its end, however that comes.

    Args:
        sandbox: what shuts it in.
        job: what to run.
        files: its stdin, stdout and stderr.
        printed: the folder of its stdout and stderr, which count as what it wrote.
        beat: is called every second or so, on this thread; what it raises ends the job.

    Raises:
        SandboxError: the job could not be started, or not be ended.
    """
    began = time.monotonic()
    running = sandbox.start(job, *files)
    try:
        fault = _watch(running, job, printed, beat, began + job.limits.seconds)
    except BaseException:
        running.kill()
        running.process.wait()
        raise
    if fault:
        running.kill()
    cpu, memory = _reap(running)
    seconds = time.monotonic() - began
    if sandbox.name == "systemd":
        cpu, memory = 0.0, 0
    return Ended(fault or _exit_fault(running.process.returncode), seconds, cpu, memory)


def _watch(
    running: Running, job: Job, printed: Path, beat: Callable[[], None], deadline: float
) -> str:
    """Why the job must be ended; empty when it ended by itself."""
    descriptor = os.pidfd_open(running.process.pid)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return f"not done after {job.limits.seconds:g} s"
            if waiting.poll(max(1, round(1000 * min(left, _LOOK)))):
                return ""
            beat()
            if used(job.folder) + used(printed) > job.limits.disk:
                return f"wrote more than {job.limits.disk} bytes"
    finally:
        os.close(descriptor)


def _reap(running: Running) -> tuple[float, int]:
    """CPU seconds, and the most memory (bytes) that a process of the job had."""
    process = running.process
    if process.returncode is not None:
        return 0.0, 0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def _exit_fault(code: int) -> str:
    if code == 0:
        return ""
    # a shell, and bubblewrap, report a signal as 128 and its number
    signal = -code if code < 0 else code - 128
    return f"ended by signal {signal}" if signal > 0 else f"failed with exit code {code}"


def used(folder: Path) -> int:
    """Bytes that a folder's files take on the disk; what vanishes meanwhile counts as nothing."""
    total, folders = 0, [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        # an empty file takes an inode
                        size = entry.stat(follow_symlinks=False).st_blocks * 512
                        total += max(size, _BLOCK)
                    except FileNotFoundError:
                        continue
        except (FileNotFoundError, PermissionError):
            continue
    return total
