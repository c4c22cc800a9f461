"""How a job is shut in. Two ways behind one interface: systemd's, and bubblewrap's.

Both: no network, a read-only filesystem with nobody's files in it, a private /tmp, an unprivileged
user, limits, and no process left when it ends. systemd limits the memory of the whole job, and is
used where root has it; bubblewrap limits that of each process, and needs neither root nor systemd.
"""

from __future__ import annotations

import os
from pathlib import Path

from kimpipeline.errors import SandboxError
from kimpipeline.run.bubblewrap import Bubblewrap
from kimpipeline.run.confined import (
    Sandbox,
)
from kimpipeline.run.systemd import Systemd
from kimpipeline.settings import Settings


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
