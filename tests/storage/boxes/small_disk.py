"""A disk image as small as can be that has in it what makes a box's: files, holes, junk."""

from __future__ import annotations

import os
from pathlib import Path

from tests.storage.commands import run

MIB = 2**20


def small_disk(path: Path, size: int = 96) -> Path:
    """A disk of ``size`` MiB: a partition table, and a filesystem with 8 MiB that do not shrink."""
    files = path.with_suffix(".files")
    files.mkdir()
    (files / "random").write_bytes(os.urandom(8 * MIB))
    (files / "text").write_text("Silicon, diamond, 5.4310 A\n" * 100_000)
    with path.open("wb") as file:
        file.truncate(size * MIB)
    run("sh", "-c", f"echo 'start=2048' | sfdisk --quiet {path}")
    run("mke2fs", "-q", "-t", "ext4", "-d", files, "-E", f"offset={MIB}", path, f"{size - 1}M")
    return path
