"""Wait for a process by its file descriptor: Popen.wait polls, and pauses for up to 50 ms."""

from __future__ import annotations

import os
import select
import subprocess


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ends within ``seconds``; it is not reaped."""
    if process.returncode is not None:
        return True
    descriptor = os.pidfd_open(process.pid)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(max(1, round(1000 * seconds))))
    finally:
        os.close(descriptor)
