"""What a test finds left behind, while other programs look at its loop devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.storage.commands import run
from tests.storage.faults import given_back, held

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "disk.raw"
    file.write_bytes(bytes(4096))
    return file


def test_a_device_that_another_had_open_may_be_gone(file: Path) -> None:
    device = run("losetup", "--find", "--show", file).strip()
    with Path(device).open("rb"):
        run("losetup", "--detach", device)
        before = held(file.parent)
        assert before
    assert given_back(file.parent, before)


def test_a_device_that_is_left_is_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.storage.faults.stop_after_delay", lambda _: lambda _: True)
    device = run("losetup", "--find", "--show", file).strip()
    try:
        assert not given_back(file.parent, [])
    finally:
        run("losetup", "--detach", device)
