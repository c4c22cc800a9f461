"""The test bed's other initrd: made by the dracut of a Debian that has it for initramfs-tools."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.debian import bootstrap
from tasks.desk.places import ROOT
from tests.boot.bed import bedinitrd
from tests.storage.trees import run_in_tree

# Where dracut's own steps take up the scripts of the bed.
_STEPS = Path(__file__).parent / "initrd-dracut"
_PACKAGES = ("dracut", "e2fsprogs", "linux-image-cloud-amd64", "lvm2", "systemd-sysv", "udev")
# The bed's script needs more programs than the reset.
_SCRIPT = """
cp -a onbox/. /
cp makeinitrd /usr/sbin/
echo 'DEADLINE=20' >/etc/default/resnap
version=$(linux-version list)
cp "/boot/vmlinuz-$version" out/vmlinuz
dracut --quiet --force --compress 'gzip -1' --install 'cat mount sync' out/initrd "$version"
"""


def make(folder: Path) -> tuple[Path, Path]:
    """The kernel and the initrd, with the reset and dracut's module of this very tree."""
    work = folder / "of-dracut"
    (work / "out").mkdir(parents=True)
    shutil.copytree(ROOT / "static/onbox", work / "onbox")
    shutil.copy(ROOT / "static/makeinitrd/makeinitrd", work)
    suite = bootstrap.SUITE
    tree = bootstrap.Tree(
        suite, _PACKAGES, bootstrap.sources(suite), bootstrap.relaxations(), lists=False
    )
    run_in_tree(tree, work, _SCRIPT)
    steps = (file for file in _STEPS.rglob("*") if file.is_file())
    files = {str(file.relative_to(_STEPS)): file.read_text() for file in steps}
    return work / "out/vmlinuz", bedinitrd.make_initrd(
        work / "out/initrd", folder / "initrd-dracut", files
    )
