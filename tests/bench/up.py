"""``inv up`` from nothing: how long it takes, and how much memory the tool itself needs."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tasks.desk import shell
from tasks.desk.places import ROOT
from tests.bench.shared.rows import Row, Step, Target
from tests.hosts.guest import Guest

_TARGETS = {"tcg": Target(high=8 * 60), "kvm": Target(high=3 * 60)}
_MEMORY = Target(high=300)
_DEADLINE = 3600  # seconds until it is given up
# VmHWM is of this process alone; getrusage's peak is also that of whoever forked it, or of
# the largest program it ran.
_TOOL = """
import sys
from pathlib import Path
from invoke.main import program
try:
    program.run(["inv", "up"])
finally:
    Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
"""


def up(step: Step) -> list[Row]:
    """Seconds of wall clock, and the peak of the tool's resident memory in MB.

    Raises:
        BoxError: it failed.
    """
    # Not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="bench-up-", dir="/var/tmp") as name:
        state = Path(name) / "state"
        note = Path(name) / "status"
        env = {"OPENKIM_BOX_STATE": str(state)}
        step("inv up, from nothing")
        try:
            began = time.perf_counter()
            argv: list[str | Path] = [sys.executable, "-c", _TOOL, note]
            shell.run(argv, env=env, cwd=ROOT, timeout=_DEADLINE)
            took = time.perf_counter() - began
            accelerator = Guest.load(state / "guest").accelerator
        finally:
            destroy = [sys.executable, "-m", "invoke", "destroy", "--force"]
            if (state / "guest").exists():
                shell.run(destroy, env=env, cwd=ROOT, timeout=120, check=False)
        what = f"inv up from nothing, on {accelerator}"
        return [
            Row(what, "s", took, target=_TARGETS[accelerator]),
            Row("peak memory of inv up", "MB", peak(note.read_text()), target=_MEMORY),
        ]


def peak(status: str) -> float:
    """The peak of resident memory in MB (10^6 bytes), from /proc/PID/status (proc(5))."""
    [line] = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
