"""Builds of a test by this machine's own compiler and Python, without the tree of a real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.debian import apt, bootstrap, cage


def build(patch: pytest.MonkeyPatch) -> None:
    """Have all recipes run here, as long as ``patch`` holds; apt is asked for nothing."""
    # Debian's own Python comes first: it lays modules out as Debian's packages do.
    path = f"/usr/bin:{os.environ['PATH']}"

    def run_in_tree(_tree: bootstrap.Tree, work: Path, script: str) -> None:
        with (work / "log").open("w") as log:
            done = subprocess.run(
                ["sh", "-eu", "-c", script],
                cwd=work,
                env={**os.environ, "PATH": path},
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            raise BoxError((work / "log").read_text().splitlines()[-1])

    patch.setattr(apt, "resolved", lambda *_: {})
    patch.setattr(cage, "run_in_tree", run_in_tree)
