"""The real package of kimpy, built twice from nothing with nothing kept between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.debian import archive
from tasks.desk import loop, shell
from tasks.desk.flags import load
from tasks.stack import packages
from tasks.stack.sources import Sources


def build(folder: Path) -> Path:
    folder.mkdir()
    loop.require_root("making a tree")
    found = archive.read("trixie", folder)
    return packages.built(Sources.of(load(), "openkim-python"), found, "trixie", folder, print)


@pytest.mark.long
def test_two_builds_are_the_same_bytes(loop_disk: str, tmp_path: Path) -> None:
    assert loop_disk  # it skips where there is no root
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    shell.run(["dpkg-deb", "--extract", one, tmp_path / "root"])
    place = tmp_path / "root/usr/lib/python3/dist-packages/kimpy"
    modules = list(place.glob("*.so"))
    assert len(modules) == 23
    assert not [path for path in modules if b"/build/" in path.read_bytes()]
