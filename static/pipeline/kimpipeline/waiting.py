"""Wait for a process without asking again and again, as subprocess does when it has a deadline."""

from __future__ import annotations

import os
import select
import subprocess


def ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a child ends within ``seconds``; it is then still to be waited for."""
    if process.returncode is not None:
        return True
    descriptor = os.pidfd_open(process.pid)
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(max(1, round(1000 * seconds))))
    finally:
        os.close(descriptor)
