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

    def run(self, script: Path) -> subprocess.CompletedProcess[str]:
        """How a script of the box's ended, and what it said."""
        return subprocess.run(
            [script],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
