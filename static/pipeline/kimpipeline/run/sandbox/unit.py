"""What systemd is asked for, for the unit of a job: what it sees, may do, and may use."""

from __future__ import annotations

import os

from kimpipeline.run.sandbox import calls
from kimpipeline.run.sandbox.confined import SCRATCH, Confined, hidden_folders

# A worker's unit sets this variable to its own name; its jobs end with it.
WORKER_UNIT = "KIMPIPELINE_UNIT"
_FIXED = (
    # what it sees
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "PrivateNetwork=yes",
    "PrivateUsers=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    # what it may do
    "CapabilityBoundingSet=",
    "KeyringMode=private",
    "LockPersonality=yes",
    "NoNewPrivileges=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET",  # mpirun needs both; there is the loopback alone
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    f"SystemCallFilter=~{' '.join(calls.DENIED)}",
    # No MemoryDenyWriteExecute=: a job may run programs that it wrote to its folder, so this would
    # hold nothing, and Tests that compile at run time could not run.
    # what it may use
    "CPUQuota=100%",
    "CPUWeight=50",  # of 100: the worker's own work comes first
    "LimitCORE=0",
    "MemorySwapMax=0",
    "OOMPolicy=kill",
    # nothing of it outlives its first process
    "KillMode=control-group",
    "KillSignal=SIGKILL",
    "TimeoutStopSec=30",
)
# systemd refuses a property that it does not know, so these ask for its version. 257 knows
# PrivatePIDs=, but loses some exit codes with it (systemd's change 36446): a Test that failed
# would have no fault.
_SINCE = {258: ("PrivatePIDs=yes",)}
# Before 250 (systemd's change 21673) a file system of ours at /run gives way to the box's own,
# which ProtectProc= asks for.
_OWN_RUN_SINCE = 250


def properties(job: Confined, user: str, version: int) -> list[str]:
    """The properties of a job's unit.

    Args:
        job: what it runs.
        user: the name of the job's user.
        version: systemd's.
    """
    limits = job.limits
    return [
        f"User={user}",
        f"WorkingDirectory={job.folder}",
        *_FIXED,
        *(each for since, more in _SINCE.items() if version >= since for each in more),
        *(["InaccessiblePaths=/run"] if version < _OWN_RUN_SINCE else []),
        *(f"TemporaryFileSystem={each}:ro" for each in hidden_folders()),
        *(f"TemporaryFileSystem={each}:mode=1777,size={limits.disk}" for each in SCRATCH),
        *(f"BindReadOnlyPaths={each}" for each in job.shown),
        f"BindPaths={job.folder}",
        f"MemoryMax={limits.memory}",
        f"TasksMax={limits.processes}",
        f"LimitFSIZE={limits.disk}",
        # the worker's own deadline is earlier, and is reported; this one is for a dead worker
        f"RuntimeMaxSec={limits.seconds + 60:g}",
        *bound(),
    ]


def bound() -> list[str]:
    """The properties that end a unit with that of this worker; none where no unit runs it."""
    worker = os.environ.get(WORKER_UNIT)
    # the worker stops first, so that it can give its job back
    return [f"BindsTo={worker}", f"Before={worker}"] if worker else []
