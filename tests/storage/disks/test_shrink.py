"""shrink on a real filesystem: what was deleted a moment ago is gone from the disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tasks.desk import loop
from tasks.disks import partitions

pytestmark = pytest.mark.commands

SHRINK = ONBOX / "usr/lib/pipeline/shrink"
SIZE = 64 * 2**20


@dataclass(frozen=True)
class Disk:
    image: Path
    filesystem: Path
    stubs: Path

    def shrink(self) -> list[str]:
        """What it says of this filesystem, the only one that it is shown."""
        env = {**os.environ, "PATH": f"{self.stubs}:{os.environ['PATH']}"}
        told = subprocess.run([SHRINK], env=env, check=True, capture_output=True, text=True)
        return told.stdout.split()

    @property
    def used(self) -> int:
        return self.image.stat().st_blocks * 512


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    image, filesystem, stubs = (tmp_path / name for name in ("image", "filesystem", "stubs"))
    filesystem.mkdir()
    stubs.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    (stubs / "findmnt").write_text(f"#!/bin/sh\necho {filesystem}\n")
    (stubs / "findmnt").chmod(0o755)
    with loop.attached(image) as device:
        partitions.make_ext4(device, "shrink")
        with loop.mounted(device, filesystem):
            yield Disk(image, filesystem, stubs)


def fill_and_delete(disk: Disk) -> None:
    junk = disk.filesystem / "junk"
    with junk.open("wb") as file:
        file.write(b"of the junk file\n" * 2**21)
        os.fsync(file.fileno())
    junk.unlink()


def test_discards_give_the_space_back(disk: Disk) -> None:
    before = disk.used
    fill_and_delete(disk)
    assert disk.used - before > 30 * 2**20
    where, how, given = disk.shrink()
    assert (where, how) == (str(disk.filesystem), "trim")
    assert int(given) > 30 * 2**20
    assert disk.used - before < 2**20


def test_zeros_take_the_place_where_discards_do_not_pass(disk: Disk) -> None:
    (disk.stubs / "fstrim").write_text("#!/bin/sh\nexit 1\n")
    (disk.stubs / "fstrim").chmod(0o755)
    fill_and_delete(disk)
    assert b"of the junk file" in disk.image.read_bytes()
    where, how, given = disk.shrink()
    assert (where, how) == (str(disk.filesystem), "zero")
    assert int(given) > 30 * 2**20
    assert b"of the junk file" not in disk.image.read_bytes()
    assert list(disk.filesystem.glob(".zeros")) == []
