"""A worker's own folder: for one worker at a time, with what the last worker left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
from pathlib import Path

from typing_extensions import Self

from kimpipeline.errors import SandboxError
from kimpipeline.files import remove
from kimpipeline.queue.messages import LOG
from kimpipeline.queue.output import tail
from kimpipeline.run.pair import results_folder

_DEADLINE = 10  # seconds for a killed process to end


class Slot:
    """The folder ``work/NAME``; within ``with`` only this process uses it.

    A worker that dies leaves its job's folder there; ``logs`` has the end of each such job's log.
    """

    def __init__(self, work: Path, name: str) -> None:
        self.name = name
        self._root = work / name
        self.logs: dict[str, str] = {}
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SandboxError(f"{self._root}: another worker is in it") from error
        except OSError as error:
            raise SandboxError(f"{self._root}: {error.strerror}") from error
        kill_left_jobs(self._root)
        self._save_logs()
        self.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        os.close(self._lock)

    def folder(self, job: str, beside: str = "") -> Path:
        """Make an empty folder for a job; remove all others, except that of the job ``beside``."""
        self.clear(beside)
        folder = self._root / job
        folder.mkdir()
        return folder

    def remove(self, job: str) -> None:
        """Remove a job's folder."""
        remove(self._root / job)

    def clear(self, but: str = "") -> None:
        """Remove the folders of all jobs, except that of the job ``but``."""
        for path in self._root.iterdir():
            if path.name != but:
                remove(path)

    def _save_logs(self) -> None:
        for path in self._root.iterdir():
            log = tail(results_folder(path, path.name))
            if log:
                self.logs[path.name] = log[-LOG:]


def kill_left_jobs(root: Path) -> None:
    """Kill jobs whose worker died while bubblewrap started them, which bubblewrap may not notice.

    They are found by the folder below ``root`` that is an argument of bubblewrap. Where systemd
    runs the worker, systemd has ended them already.
    """
    mark = b"\0--bind\0" + os.fsencode(root) + b"/"
    while _kill_marked(mark):
        pass  # one of them may have started another after the processes were listed


def _kill_marked(mark: bytes) -> bool:
    """Kill each process with ``mark`` among its arguments; whether there was one."""
    found = False
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            process = os.pidfd_open(int(entry.name))
            try:
                if mark in (entry / "cmdline").read_bytes():
                    found = True
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [], _DEADLINE)
            finally:
                os.close(process)
    return found
