"""Debian 12 becomes a box as Debian 13 does: an older LVM, initramfs-tools, GRUB and Python."""

from pathlib import Path

import pytest

from tasks.guests import bare
from tests.boot.conftest import GIB, Start
from tests.boot.lab.box import becomes_a_box
from tests.boot.lab.recipes import Recipe


@pytest.mark.long
def test_debian_12_becomes_a_box(start: Start, shared: Path) -> None:
    recipe = Recipe("lvm", disk_size=10 * GIB, suite="bookworm")
    base = bare.build(recipe, shared)
    with start(base) as box:
        assert box.state.os_version == "12"
        becomes_a_box(box)
