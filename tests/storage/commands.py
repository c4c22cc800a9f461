"""The one way the storage tests start a command."""

from __future__ import annotations

import subprocess
from pathlib import Path


def run(*argv: str | Path) -> str:
    """A command's stdout; a failure shows its stderr."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv}: {result.stderr}"
    return result.stdout
