"""A file takes its name when it is whole; one that is in use is not replaced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deploys.errors import BoxError
from tasks.desk import whole_files


def test_a_file_takes_its_name_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "box.raw"
    target.write_text("old")
    with whole_files.replaced(target) as file:
        file.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "box.raw"
    target.write_text("old")

    def half() -> None:
        with whole_files.replaced(target) as file:
            file.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_someone_has_open_is_in_use(tmp_path: Path) -> None:
    file, other = tmp_path / "box.raw", tmp_path / "other"
    whole_files.require_unused(file)  # not there yet
    file.touch()
    other.touch()
    with other.open("rb"):
        whole_files.require_unused(file)
    with file.open("rb"), pytest.raises(BoxError, match=r"box\.raw is in use by \S+ \(process"):
        whole_files.require_unused(file)


def test_a_process_that_ends_meanwhile_has_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = f"/proc/{os.getppid()}/fd"
    listed = os.scandir
    asked = []

    def scandir(path: Any) -> Any:
        asked.append(os.fspath(path))
        if asked[-1] == ended:
            raise FileNotFoundError(ended)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    file = tmp_path / "box.raw"
    with file.open("wb"), pytest.raises(BoxError, match="is in use"):
        whole_files.require_unused(file)
    file.touch()
    whole_files.require_unused(file)
    assert ended in asked


@pytest.mark.parametrize("mode", ["r+b", "ab"])
def test_a_file_that_someone_can_write(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "box.raw"
    whole_files.require_unwritten(file)  # not there yet
    file.touch()
    with file.open("rb"):
        whole_files.require_unwritten(file)  # a guest's disk may lie on it
    with file.open(mode), pytest.raises(BoxError, match=r"box\.raw is in use by \S+ \(process"):
        whole_files.require_unwritten(file)
