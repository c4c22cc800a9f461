"""Two builds from nothing, one after the other, with nothing kept between them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.places import ROOT
from tests.storage.test_disk_of_a_box import sha256

SMALL = (
    "image.disk_size=9G",
    "volumes.persistent_size=256M",
    "volumes.swap_size=64M",
    "stack=none",
)


def build(folder: Path) -> Path:
    folder.mkdir()
    disk = folder / "box.raw"
    flags = [word for setting in SMALL for word in ("--set", setting)]
    program = Path(sys.executable).with_name("inv")
    subprocess.run(
        [program, "--search-root", ROOT, "box.build", "--out", disk, *flags],
        env={**os.environ, "OPENKIM_BOX_STATE": str(folder / "state")},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return disk


@pytest.mark.long
def test_two_builds_are_the_same_bytes(loop_disk: str, tmp_path: Path) -> None:
    assert loop_disk
    assert sha256(build(tmp_path / "one")) == sha256(build(tmp_path / "two"))
