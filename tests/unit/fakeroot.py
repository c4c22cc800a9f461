"""A folder that stands for a box's root, for a script of the box's that is told of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploys.facts.hoststate import VERDICTS


def came_out(root: Path, verdict: str, *lines: str) -> None:
    """Leave this verdict in a root's /run/resnap, and no other, as the reset does."""
    run = root / "run/resnap"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / verdict).write_text("".join(f"{line}\n" for line in lines))
    if VERDICTS[verdict].mode == "snapshot":
        (run / "in-snapshot").write_text(f"{verdict}\n")


@dataclass
class FakeRoot:
    """The folder; the commands in its ``tools`` come before the system's."""

    root: Path

    def write(self, name: str, content: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def came_out(self, verdict: str, *lines: str) -> None:
        came_out(self.root, verdict, *lines)

    def tool(self, name: str, body: str) -> None:
        self.write(f"tools/{name}", f"#!/bin/sh\n{body}\n").chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """What has a script find the folder and its tools, and nothing else."""
        return {"PATH": f"{self.root}/tools:{os.environ['PATH']}", "PIPELINE_ROOT": str(self.root)}

    @property
    def calls(self) -> list[str]:
        """What its tools wrote down in the file of that name, a line for each call."""
        log = self.root / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def run(self, script: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """How a script of the box's ended, and what it said."""
        return subprocess.run(
            [script, *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
