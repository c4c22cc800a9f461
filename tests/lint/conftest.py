"""What the linters look at."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root(pytestconfig: pytest.Config) -> Path:
    """The project's folder."""
    return pytestconfig.rootpath


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """The files that git tracks, or would: no links, nothing that is ignored."""
    # A checkout may belong to another user than the root that runs the tests.
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    done = subprocess.run(
        [*git, "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    files = [root / name for name in done.stdout.split("\0") if name]
    found = [file for file in files if file.is_file() and not file.is_symlink()]
    assert found, "git lists no file of this project"
    return found
