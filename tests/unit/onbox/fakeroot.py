"""A folder that stands for a box's root."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploys.facts.host_state import VERDICTS

# An mkdir for a /persistent that takes nothing.
NO_FOLDERS = f'case "$*" in */persistent/*) exit 1 ;; esac; exec {shutil.which("mkdir")} "$@"'


def came_out(root: Path, verdict: str, *lines: str) -> None:
    """Leave this verdict in a root's /run/resnap, and no other, as the reset does."""
    run = root / "run/resnap"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / verdict).write_text("".join(f"{line}\n" for line in lines))
    if VERDICTS[verdict].mode == "snapshot":
        (run / "in-snapshot").write_text(f"{verdict}\n")


@dataclass
class Tree:
    """A root's folder, and what may lie in it."""

    root: Path

    def write(self, name: str, content: str = "") -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def program(self, name: str, body: str) -> Path:
        """A script for the shell."""
        file = self.write(name, f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return file

    def lines(self, name: str) -> list[str]:
        """Those of a file that may be missing."""
        file = self.root / name
        return file.read_text().splitlines() if file.exists() else []

    def came_out(self, verdict: str, *lines: str) -> None:
        came_out(self.root, verdict, *lines)


@dataclass
class FakeRoot(Tree):
    """One whose scripts are told of it; the commands in ``tools`` come before the system's."""

    def tool(self, name: str, body: str) -> None:
        self.program(f"tools/{name}", body)

    @property
    def environment(self) -> dict[str, str]:
        """What has a script find the folder and its tools, and nothing else."""
        return {"PATH": f"{self.root}/tools:{os.environ['PATH']}", "PIPELINE_ROOT": str(self.root)}

    @property
    def calls(self) -> list[str]:
        """What its tools wrote down in the file of that name, a line for each call."""
        return self.lines("calls")

    def run(self, script: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """How a script of the box's ended, and what it said; ``extra`` is of its environment."""
        return subprocess.run(
            [script, *words],
            env={**os.environ, **self.environment, **extra},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
