"""The choice of a sandbox: systemd's or bubblewrap's.

In both a job has no network, a read-only filesystem without the files of others, a private /tmp, an
unprivileged user, a filter of system calls and limits, and none of its processes outlives it.
systemd needs root, and limits the memory of the whole job. bubblewrap needs neither root nor
systemd; it limits the memory of each process, and has a job's disk looked at once a second.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kimpipeline.errors import SandboxError
from kimpipeline.run.sandbox import cell
from kimpipeline.run.sandbox.bubblewrap import Bubblewrap
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.run.sandbox.systemd import Systemd
from kimpipeline.settings import Settings


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Sandbox]:
    """The sandbox of this process; where root runs jobs, no other process has its user.

    Raises:
        SandboxError: the machine does not have the sandbox that the settings name.
    """
    chosen = choose(settings)
    if os.geteuid() != 0:
        yield Bubblewrap(None)
        return
    with cell.taken(settings.folders.work) as own:
        if chosen is Systemd:
            with Systemd(own, settings.limits.disk) as sandbox:
                yield sandbox
        else:
            yield Bubblewrap(own.user)


def choose(settings: Settings, root: Path = Path("/")) -> type[Systemd] | type[Bubblewrap]:
    """The sandbox that the settings name; for ``auto`` systemd's, if this machine has it.

    Args:
        settings: the runner's settings.
        root: where the machine's filesystem is.

    Raises:
        SandboxError: the machine does not have the sandbox that the settings name.
    """
    able = os.geteuid() == 0 and _has_systemd(root)
    if settings.sandbox == "systemd" and not able:
        raise SandboxError(
            "systemd's sandbox needs root, and cgroup v2 with the memory and pids controllers"
        )
    return Systemd if able and settings.sandbox != "bubblewrap" else Bubblewrap


def _has_systemd(root: Path) -> bool:
    """Whether systemd runs on the machine and can limit jobs.

    Without these controllers systemd accepts MemoryMax and TasksMax and ignores them: a job that
    forks without end would take the whole machine.
    """
    try:
        controllers = (root / "sys/fs/cgroup/cgroup.controllers").read_text().split()
    except OSError:
        return False
    return (root / "run/systemd/system").is_dir() and {"memory", "pids"} <= set(controllers)
