"""What an upgrade of grub-pc does to the disks: Debian's package and its debconf, in a chroot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from deploys.operations.packages import answered
from deploys.reset.boot import NO_DISKS
from tasks.debian import bootstrap, chroot
from tasks.desk import loop
from tests.storage.stack.test_parts_from_git import applied

GONE = "/dev/sdz"
# What dpkg tells a package's script.
DPKG = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DPKG_MAINTSCRIPT_NAME": "postinst",
    "DPKG_MAINTSCRIPT_PACKAGE": "grub-pc",
}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A Debian with grub-pc, whose disk is gone since debconf noted it."""
    if os.geteuid() != 0:
        pytest.skip("making a Debian tree needs root")
    root = tmp_path / "root"
    tree = bootstrap.Tree(
        bootstrap.SUITE, ("grub-pc",), bootstrap.sources(), bootstrap.relaxations()
    )
    bootstrap.fill_folder(root, tree, tmp_path)
    (root / "boot/grub/i386-pc").mkdir(parents=True)
    (root / "boot/grub/i386-pc/core.img").touch()  # grub-install leaves it
    with loop.chroot(root):
        answers = f"grub-pc grub-pc/install_devices multiselect {GONE}\n"
        inside(root, "debconf-set-selections", stdin=answers)
        yield root


def inside(root: Path, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**chroot.environment(), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        ["chroot", root, *argv],
        env={**environment, **DPKG},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def upgrade(root: Path) -> subprocess.CompletedProcess[str]:
    """What dpkg does at an upgrade when the files are unpacked."""
    version = inside(root, "dpkg-query", "-W", "-f=${Version}", "grub-pc").stdout
    return inside(root, "/var/lib/dpkg/info/grub-pc.postinst", "configure", version)


@pytest.mark.slow
def test_an_upgrade_of_grub_writes_to_no_disk_and_does_not_fail_when_one_is_gone(
    root: Path,
) -> None:
    failed = upgrade(root)
    assert failed.returncode != 0
    assert f"{GONE} does not exist" in failed.stderr

    deploy = partial(answered, name="GRUB", package="grub-pc", answers=NO_DISKS)
    assert applied(root, deploy) == (1, 0)
    done = upgrade(root)
    assert done.returncode == 0, done.stderr
    assert "grub-install" not in done.stdout.replace("Running grub-install ...", "")
    shown = inside(root, "debconf-show", "grub-pc").stdout.splitlines()
    assert "* grub-pc/install_devices:" in map(str.rstrip, shown)

    absent = partial(answered, name="another", package="grub-efi-amd64", answers=NO_DISKS)
    assert applied(root, absent) == (0, 0)
