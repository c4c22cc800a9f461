"""The choice of a sandbox: systemd's or bubblewrap's.

In both a job has no network, a read-only filesystem without the files of others, a private /tmp, an
unprivileged user and limits, and none of its processes outlives it. systemd needs root, and limits
the memory of the whole job. bubblewrap needs neither root nor systemd, and limits the memory of
each process.
"""

from __future__ import annotations

import os
from pathlib import Path

from kimpipeline.errors import SandboxError
from kimpipeline.run.bubblewrap import Bubblewrap
from kimpipeline.run.confined import Sandbox
from kimpipeline.run.systemd import Systemd
from kimpipeline.settings import Settings


def choose(settings: Settings, root: Path = Path("/")) -> Sandbox:
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
    if able and settings.sandbox != "bubblewrap":
        return Systemd(settings.job_user)
    return Bubblewrap(settings.job_user if os.geteuid() == 0 else None)


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
