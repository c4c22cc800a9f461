"""The files below ``static/onbox``, as they are to lie on a box."""

from __future__ import annotations

import stat
from pathlib import Path

from deploys.errors import DeployError
from deploys.operations.onbox import OnboxFile

ONBOX = Path(__file__).resolve().parents[1] / "static" / "onbox"


def tree(*relative_paths: str, root: Path = ONBOX) -> dict[str, OnboxFile]:
    """Path on the box to file, for each of ``relative_paths`` and all that lies below it.

    Args:
        relative_paths: files or directories below ``static/onbox``, as ``usr/sbin/provisiond``.
        root: the directory that mirrors the box's own paths.

    A file is 0755 on the box when its owner may execute it here, else 0644. What Python compiled of
    them here is left out.

    Raises:
        DeployError: a path is not there.
    """
    found: dict[str, OnboxFile] = {}
    for relative in relative_paths:
        start = root / relative
        if not start.exists():
            raise DeployError(f"{start}: no such file; is this checkout complete?")
        for file in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if file.is_file() and "__pycache__" not in file.parts:
                executable = file.stat().st_mode & stat.S_IXUSR
                mode = 0o755 if executable else 0o644
                found[f"/{file.relative_to(root)}"] = OnboxFile(file.read_bytes(), mode)
    return found
