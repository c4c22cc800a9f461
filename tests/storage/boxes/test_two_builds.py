"""Builds from nothing, one after the other, with nothing kept between them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploys.stack.manifest import MANIFEST
from tasks.desk.places import ROOT
from tasks.disks import box_disk, partitions, volume_group
from tests.storage.commands import run
from tests.storage.disks.test_disk_of_a_box import sha256

SMALL = (
    "image.disk_size=9G",
    "volumes.persistent_size=256M",
    "volumes.swap_size=64M",
    "stack=none",
)


def build(folder: Path, *more: str | Path) -> Path:
    folder.mkdir()
    disk = folder / "box.raw"
    flags = [*more, *(word for setting in SMALL for word in ("--set", setting))]
    program = Path(sys.executable).with_name("inv")
    subprocess.run(
        [program, "--search-root", ROOT, "box.build", "--out", disk, *flags],
        env={**os.environ, "OPENKIM_BOX_STATE": str(folder / "state")},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return disk


def manifest_of(disk: Path) -> str:
    """What a box says that it is made of."""
    root = volume_group.find(disk, partitions.extents(disk)[box_disk.LVM], "vagrant-pipeline")[
        "root"
    ]
    return run("debugfs", "-R", f"cat {MANIFEST}", f"{disk}?offset={root.offset}")


@pytest.mark.long
def test_two_builds_are_the_same_bytes(loop_disk: str, tmp_path: Path) -> None:
    """A third one, told to take the versions that the first one has, too."""
    assert loop_disk
    one = build(tmp_path / "one")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest_of(one))
    assert '"packages"' in manifest.read_text()
    two = build(tmp_path / "two")
    assert sha256(one) == sha256(two)
    two.unlink()
    assert sha256(one) == sha256(build(tmp_path / "three", "--manifest", manifest))
