"""The note in a guest's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.guests import folder


class _Note(folder.Note):
    FILE = "note.json"
    name: str


def test_a_note_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    assert _Note.read(tmp_path) is None
    _Note(name="old").write(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        _Note(name="new").write(tmp_path)
    assert _Note.read(tmp_path) == _Note(name="old")
    assert [file.name for file in tmp_path.iterdir()] == ["note.json"]
