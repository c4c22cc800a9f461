"""A sandbox made by systemd, which needs root: each job is a transient unit."""

from __future__ import annotations

import os
import subprocess
import uuid
from typing import IO

from kimpipeline.errors import SandboxError
from kimpipeline.run.confined import (
    SCRATCH,
    Confined,
    Running,
    chown_tree,
    environment,
    find_program,
    hidden_folders,
)

# A worker's unit sets this variable to its own name; its jobs end with it.
WORKER_UNIT = "KIMPIPELINE_UNIT"
_KILL_DEADLINE = 30  # seconds


class _Unit:
    """A job's unit, and the systemd-run that waits for it."""

    def __init__(self, process: subprocess.Popen[bytes], unit: str) -> None:
        self.process = process
        self._unit = unit

    def kill(self) -> None:
        stop = [find_program("systemctl", "systemd"), "kill", "--signal=KILL", self._unit]
        subprocess.run(stop, capture_output=True, timeout=_KILL_DEADLINE, check=False)  # noqa: S603
        try:
            self.process.wait(_KILL_DEADLINE)
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"{self._unit} did not end after it was killed") from error


class Systemd:
    """Runs jobs by systemd-run; a job's unit is gone when it ends."""

    name = "systemd"

    def __init__(self, user: str) -> None:
        self.user = user

    def argv(self, job: Confined, unit: str) -> list[str]:
        """The command that starts a job as the unit of this name."""
        limits = job.limits
        properties = [
            f"User={self.user}",
            f"WorkingDirectory={job.folder}",
            "PrivateNetwork=yes",
            "PrivateDevices=yes",
            "PrivateIPC=yes",
            "ProtectSystem=strict",
            "ProtectProc=invisible",
            "ProtectKernelTunables=yes",
            "ProtectControlGroups=yes",
            "NoNewPrivileges=yes",
            "RestrictSUIDSGID=yes",
            "RestrictNamespaces=yes",
            "CapabilityBoundingSet=",
            "KillMode=control-group",
            *(f"TemporaryFileSystem={each}:ro" for each in hidden_folders()),
            *(f"TemporaryFileSystem={each}:mode=1777,size={limits.disk}" for each in SCRATCH),
            f"BindReadOnlyPaths={job.items}",
            f"BindPaths={job.folder}",
            f"MemoryMax={limits.memory}",
            "MemorySwapMax=0",
            f"TasksMax={limits.processes}",
            f"LimitFSIZE={limits.disk}",
            "LimitCORE=0",
            # the worker's own deadline is earlier, and is reported; this one is for a dead worker
            f"RuntimeMaxSec={limits.seconds + 60:g}",
        ]
        worker = os.environ.get(WORKER_UNIT)
        if worker:
            # the worker stops first, so that it can give its job back
            properties += [f"BindsTo={worker}", f"Before={worker}"]
        words = [find_program("systemd-run", "systemd"), "--quiet", "--collect", "--pipe", "--wait"]
        words += [f"--unit={unit}", "--service-type=exec"]
        words += [f"--property={each}" for each in properties]
        words += [f"--setenv={name}={value}" for name, value in environment(job.folder).items()]
        return [*words, "--", *job.argv]

    def start(
        self, job: Confined, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> Running:
        chown_tree(job.folder, self.user)
        unit = f"pipeline-job-{uuid.uuid4().hex}.service"
        process = subprocess.Popen(  # noqa: S603 - an argv list
            self.argv(job, unit), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )
        return _Unit(process, unit)
