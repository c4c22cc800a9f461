"""GRUB's own code finds what was written to the /boot of a box in a file when that is flushed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.desk import loop
from tests.storage.commands import run
from tests.unit.onbox.initramfs import RESNAP

# This machine's other filesystems may have gigabytes to write.
SYNC = "#!/bin/sh\nexec /bin/sync -f /boot\n"
WRITTEN = """
set -eu
mount "$1" /boot
echo kernel >/boot/vmlinuz
sync -f /boot
grub-fstest "$2" ls / >"$4/synced"
VOLFILE=/pipeline/box.img PATH="$4:$PATH" "$3"
grub-fstest "$2" ls / >"$4/flushed"
timeout 20 sh -c 'echo more >/boot/later'
"""


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_grub_finds_a_new_file(filesystem: str, tmp_path: Path) -> None:
    """And the filesystem can be written to after that. XFS leaves it to its log after a sync."""
    image = tmp_path / "boot.img"
    with image.open("wb") as file:
        file.truncate(400 * 2**20)
    run(f"mkfs.{filesystem}", "-q", image)
    (tmp_path / "sync").write_text(SYNC)
    (tmp_path / "sync").chmod(0o755)
    with loop.attached(image) as device:
        words = (device, image, RESNAP.with_name("flush-boot"), tmp_path)
        run("unshare", "--mount", "sh", "-c", WRITTEN, "written", *words)
    assert filesystem == "ext4" or "vmlinuz" not in (tmp_path / "synced").read_text()
    assert "vmlinuz" in (tmp_path / "flushed").read_text()
