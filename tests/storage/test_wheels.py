"""The real wheel of kimpy, built twice from nothing with nothing kept between them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tasks import wheels
from tasks.machines import archive, loop


def build(folder: Path) -> Path:
    folder.mkdir()
    loop.require_root("making a tree")
    found = archive.read("trixie", folder)
    kimpy = wheels.wheel(found, "trixie", folder, print)
    (wheel,) = kimpy.path.parent.glob("*.whl")
    return wheel


@pytest.mark.long
def test_two_builds_are_the_same_bytes(loop_disk: str, tmp_path: Path) -> None:
    assert loop_disk  # it skips where there is no root
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as packed:
        modules = {name: packed.read(name) for name in packed.namelist() if name.endswith(".so")}
    assert len(modules) == 23
    assert not [name for name, content in modules.items() if b"/build/" in content]
