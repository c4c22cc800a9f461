"""A guest of a box's image that somebody else made, as root does with ``sudo inv box.build``."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from deploys.settings import Settings
from tasks.disks import box_disk
from tasks.guests import Order, bare, credentials
from tasks.guests.qemu import provider

pytestmark = pytest.mark.commands


@pytest.mark.parametrize("mine", [True, False])
def test_the_guest_keeps_the_image(
    mine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a link where the kernel allows one, else by a copy; holes stay holes."""
    built, folder = tmp_path / "box.raw", tmp_path / "guest"
    with built.open("wb") as image:
        image.truncate(64 * 2**20)
        image.write(b"a box")
    if not mine:
        monkeypatch.setattr(os, "link", Mock(side_effect=PermissionError))
    monkeypatch.setattr(box_disk, "read_kernel", Mock())
    monkeypatch.setattr(credentials, "make", lambda *_: (None, {}))
    monkeypatch.setattr(bare, "overlay", lambda base, _file: base)
    steps: list[str] = []
    order = Order(
        *(folder, tmp_path, tmp_path / "key", Settings()),
        bare=False,
        box_image=lambda: built,
        step=steps.append,
    )
    machine, _ = provider._box(order, folder / "vmlinuz")
    [kept] = machine.disks
    assert kept.samefile(built) is mine
    assert steps == ([] if mine else ["copying the image"])
    assert kept.read_bytes() == built.read_bytes()
    assert kept.stat().st_blocks * 512 < 2**20
    built.unlink()
    assert kept.exists()
