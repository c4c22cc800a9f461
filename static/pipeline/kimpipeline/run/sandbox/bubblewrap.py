"""A sandbox made by bubblewrap, which needs neither root nor systemd."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from kimpipeline.errors import SandboxError
from kimpipeline.run.sandbox import calls
from kimpipeline.run.sandbox.confined import (
    SCRATCH,
    Confined,
    Running,
    chown_tree,
    environment,
    exit_fault,
    find_program,
    hidden_folders,
)

_KILL_DEADLINE = 30  # seconds


class _Wrapped:
    """A job in bubblewrap; when the first process of its namespace ends, all others end too."""

    def __init__(self, process: subprocess.Popen[bytes], first: int | None) -> None:
        self.process = process
        self._first = first

    def kill(self) -> None:
        if self._first is None:
            return
        # a job ends with its bubblewrap, except one that bubblewrap is just starting
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        self.process.kill()
        self._gone()

    def finish(self) -> str:
        code = self.process.wait()
        self._gone()  # bubblewrap itself ends before the others that its end kills
        return exit_fault(code)

    def _gone(self) -> None:
        """Wait for the namespace's first process, which ends after all others."""
        if self._first is None:
            return
        waiting = select.poll()
        waiting.register(self._first, select.POLLIN)
        if not waiting.poll(_KILL_DEADLINE * 1000):
            raise SandboxError(f"a job did not end within {_KILL_DEADLINE} s of being killed")

    def __del__(self) -> None:
        if self._first is not None:
            os.close(self._first)


class Bubblewrap:
    """Runs jobs in namespaces made by bubblewrap, under resource limits."""

    name = "bubblewrap"
    holds_disk = False

    def __init__(self, user: int | None) -> None:
        self.user = user

    def room(self, scratch: Path) -> Path:
        return scratch / "test"

    def argv(self, job: Confined, information: int, filtered: int) -> list[str]:
        """The command that starts a job.

        bubblewrap writes to the descriptor ``information``, and reads the filter of system calls
        from ``filtered``.
        """
        folder, limits = str(job.folder), job.limits
        words: list[str] = []
        if self.user is not None:
            words += [find_program("setpriv", "util-linux"), f"--reuid={self.user}"]
            words += [f"--regid={self.user}", "--clear-groups", "--no-new-privs"]
        words += [find_program("bwrap", "bubblewrap"), "--unshare-all", "--unshare-user"]
        words += ["--disable-userns", "--die-with-parent", "--new-session"]
        words += ["--info-fd", str(information), "--seccomp", str(filtered)]
        words += ["--ro-bind", "/", "/"]
        words += ["--dev", "/dev", "--proc", "/proc"]
        for name in hidden_folders():
            words += ["--tmpfs", name]
        for name in SCRATCH:
            words += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", name]
        for shown in map(str, job.shown):
            words += ["--ro-bind", shown, shown]
        words += ["--bind", folder, folder]
        for name in ("/dev", *hidden_folders()):
            words += ["--remount-ro", name]  # else a job could fill memory there without a limit
        # inside the namespace, where the processes of other jobs do not count
        words += ["--chdir", folder, "--", find_program("prlimit", "util-linux"), "--core=0"]
        words += [f"--as={limits.memory}", f"--fsize={limits.disk}", f"--nproc={limits.processes}"]
        return [*words, *job.argv]

    def start(
        self, job: Confined, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Running:
        chown_tree(job.folder, self.user)
        program = calls.program()
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as information, tempfile.TemporaryFile() as filtered:
            filtered.write(program)
            filtered.seek(0)
            try:
                process = subprocess.Popen(  # noqa: S603 - an argv list
                    self.argv(job, writer, filtered.fileno()),
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=environment(job),
                    pass_fds=(writer, filtered.fileno()),
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
                line = line.rpartition("\n")[2] or "no message"
                raise SandboxError(f"bubblewrap could not start a job: {line}") from error


def _open(process: int) -> int | None:
    """A process's file descriptor; None if it has already ended."""
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None
