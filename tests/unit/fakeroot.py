"""A folder that stands for a box's root, for a script of the box's that is told of it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class FakeRoot:
    """The folder; the commands in its ``tools`` come before the system's."""

    root: Path

    def write(self, name: str, content: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

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
