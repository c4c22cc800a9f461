"""GRUB reads no journal of /boot: it finds whole files, at whatever instant the power goes.

The disk is real, and all that is written to it is logged; in place of a boot GRUB's own code looks
at what a cut after each request leaves.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tasks.desk import loop, shell
from tasks.desk.ssh_keys import Identity
from tasks.guests.qemu.hardware import Machine
from tests.boot.bed import writelog
from tests.boot.bed.logged import logged
from tests.boot.bed.writelog import Cache
from tests.boot.cuts import cutreport
from tests.boot.cuts.cuts import Survival
from tests.boot.cuts.hostdisks import Cut, Disks
from tests.boot.cuts.recording import Recording
from tests.boot.lab import grubview
from tests.unit.onbox.initramfs import install
from tests.unit.onbox.reset.test_makeinitrd import DEFAULTS, Box, box, parts

pytestmark = pytest.mark.commands
__all__ = ["box", "parts"]
WHOLE = "loop0"


@pytest.fixture
def boot(box: Box, tmp_path: Path) -> Path:
    """An image of the box's /boot, as the first makeinitrd left it; the second makes others."""
    assert box.makeinitrd().returncode == 0
    disk = tmp_path / "boot.raw"
    with disk.open("wb") as file:
        file.truncate(64 * 2**20)
    argv: list[str | Path] = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-J",
        "size=4",
        "-d",
        box.root / "boot",
        disk,
    ]
    shell.run(argv)
    box.write("fake/more", "".join(f"{number}\n" for number in range(40000)))
    box.write("etc/default/resnap", DEFAULTS.replace("UUID=", "UUID=0a1b-2c"))
    (box.root / "sbin/fsfreeze").unlink()
    install(Path(shutil.which("fsfreeze") or "fsfreeze"), box.root, "sbin/fsfreeze")
    # of this filesystem alone: the rest of the machine may have gigabytes to write
    (box.root / "sbin/sync").unlink()
    box.write("sbin/sync", "#!/bin/sh\nexec /bin/sync -f /boot\n")
    (box.root / "sbin/sync").chmod(0o755)
    return disk


def views(box: Box, disk: Path, folder: Path) -> dict[str, grubview.View | None]:
    """What GRUB finds after a cut at each request of a makeinitrd."""
    log = folder / "log"
    before = shutil.copy(disk, folder / "before.raw")
    with (
        logged(disk, log) as shown,
        loop.attached(shown) as device,
        loop.mounted(device, box.root / "boot"),
    ):
        done = box.makeinitrd()
        assert done.returncode == 0, done.stderr
    recording = Recording(
        machine=Machine(disks=()),
        identity=Identity(user="", user_key=folder, host_key=""),
        disks=(before,),
        logs=(log,),
        looks=[(end,) for end, _ in writelog.mapped(log)],
        steps=[],
    )
    disks, chance = Disks(recording, folder), random.Random(0)
    found = {}
    for look in range(len(recording.looks)):
        for cache in Cache:
            cut = Cut(look, cache, chance.randrange(10**6))
            with disks.after(cut) as (image,):
                found[cut.name(recording)] = grubview.of(image, WHOLE)
    return found


def expected(before: Path, after: Path) -> set[grubview.View]:
    """The menu and the initrd, the old one or the new; the initrd is there before the menu."""
    old, new = grubview.of(before, WHOLE), grubview.of(after, WHOLE)
    assert old is not None
    assert new is not None
    assert old.initrd != new.initrd
    assert old.menu != new.menu
    return {old, grubview.View(old.menu, new.kernel, new.initrd), new}


def test_grub_finds_whole_files_after_every_request(box: Box, boot: Path, tmp_path: Path) -> None:
    found = views(box, boot, tmp_path)
    whole = expected(tmp_path / "before.raw", boot)
    came = {
        name: Survival(() if view in whole else (f"GRUB finds {view}",), 0, 0)
        for name, view in found.items()
    }
    cutreport.write(cutreport.row("exact, as GRUB reads it", "makeinitrd", len(found), came))
    assert not {name: survival.faults for name, survival in came.items() if survival.faults}
    assert set(found.values()) == whole


def test_of_a_mere_rename_it_does_not(box: Box, boot: Path, tmp_path: Path) -> None:
    script = box.root / "usr/lib/resnap/replace-on-boot"
    script.write_text('#!/bin/sh\nsync\nmv "$1.made" "$1"\nsync\n')
    found = views(box, boot, tmp_path)
    assert set(found.values()) - expected(tmp_path / "before.raw", boot)
