"""What GRUB sees of /boot when the power goes: it reads no journal. GRUB's own code looks here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.machines import loop
from tests.storage.commands import run
from tests.unit.initramfs import install
from tests.unit.test_makeinitrd import NEW, OLD, Box, box, parts

__all__ = ["box", "parts"]
MENU = "grub/grub.cfg"
INITRDS = tuple(f"initrd.img-{version}" for version in (NEW, OLD))


@pytest.fixture
def image(box: Box, tmp_path: Path) -> Iterator[Path]:
    """The disk of the box's /boot, a real filesystem; what freezes it is the real program.

    There is no sync: of ext4 it writes what is in the journal to its place too, of XFS it does not.
    """
    disk, boot = tmp_path / "boot.raw", box.root / "boot"
    with disk.open("wb") as file:
        file.truncate(64 * 2**20)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=4", "-d", boot, disk)
    for name in ("bin/sync", "sbin/fsfreeze"):
        (box.root / name).unlink()
    (box.root / "bin/sync").write_text("#!/bin/sh\n")
    (box.root / "bin/sync").chmod(0o755)
    install(Path(shutil.which("fsfreeze") or "fsfreeze"), box.root, "sbin/fsfreeze")
    with loop.attached(disk) as device, loop.mounted(device, boot):
        yield disk


def seen_by_grub(disk: Path, name: str) -> str:
    """A file as GRUB's code reads it, of a disk whose filesystem nobody unmounted."""
    left = disk.with_suffix(".left")
    shutil.copy(disk, left)
    return run("grub-fstest", left, "cat", f"(loop0)/{name}")


def test_what_was_made_is_seen(box: Box, image: Path) -> None:
    assert "scripts/local-premount/resnap" not in seen_by_grub(image, INITRDS[0])
    assert box.makeinitrd().returncode == 0
    assert "--id resnap" in box.menu
    for name in (MENU, *INITRDS):
        assert seen_by_grub(image, name) == (box.root / "boot" / name).read_text()


def test_without_the_freeze_it_is_not(box: Box, image: Path) -> None:
    (box.root / "sbin/fsfreeze").unlink()
    assert box.makeinitrd().returncode == 0
    assert seen_by_grub(image, MENU) != box.menu
