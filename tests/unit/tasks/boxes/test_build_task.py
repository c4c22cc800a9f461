"""inv box.build: its flags, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import BoxError
from deploys.facts.state import HostState
from deploys.settings import Settings
from deploys.stack.bundle import Project
from tasks import box, ns
from tasks.boxes import image
from tasks.boxes.build import Build, Built
from tasks.stack import bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the image lies when no flag says otherwise."""
    box = tmp_path / "state" / "box.raw"
    monkeypatch.setattr(image, "BOX", box)
    monkeypatch.setattr(image, "_NOTE", box.with_suffix(".made-of"))
    monkeypatch.setattr(image, "_FINALIZED", box.with_suffix(".finalized"))
    monkeypatch.setattr(bundle, "project_version", lambda: Project("commit", "digest"))
    return box


def fail(error: BaseException) -> object:
    def run(_: Build) -> Built:
        raise error

    return run


def test_it_has_its_name() -> None:
    assert "box.build" in ns.task_names


def test_the_flags_reach_the_build(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[Settings, Path, Path | None]] = []

    def run(self: Build) -> Built:
        seen.append((self._settings, self._out, self._manifest))
        self._out.write_bytes(b"x" * 2048)
        return Built(self._out, 1024, HostState(release={"MANIFEST": "abc"}))

    monkeypatch.setattr(Build, "run", run)
    box.build(Context(), set=["image.user=me"])
    box.build(Context(), out=str(place.with_name("other.raw")), manifest="m.json")
    (first, out, none), (_, other, manifest) = seen
    assert (first.image.user, out, none) == ("me", place, None)
    assert (other.name, manifest) == ("other.raw", Path("m.json"))
    printed = capsys.readouterr().out
    assert f"image       {place}" in printed
    assert "2 KiB, of which 1 KiB are used" in printed
    assert "manifest    abc" in printed


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BoxError("no room"), 1, "error: no room"),
        (KeyboardInterrupt(), 130, "interrupted: no image was made or changed"),
    ],
)
def test_a_fault_is_one_line(
    error: BaseException, code: int, line: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not place.exists()
    monkeypatch.setattr(Build, "run", fail(error))
    with pytest.raises(Exit) as caught:
        box.build(Context())
    assert (caught.value.code, str(caught.value.message)) == (code, line)


def test_not_root_is_one_line_before_anything(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Exit, match=r"^error: making a box's disk image needs root"):
        box.build(Context())
    assert list(place.parent.iterdir()) == []


def test_an_interrupt_that_was_lost_ends_the_build_at_its_next_step(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    before = signal.getsignal(signal.SIGINT)

    def run(self: Build) -> Built:
        with contextlib.suppress(KeyboardInterrupt):  # as Python does within a fork
            signal.raise_signal(signal.SIGINT)
        steps.append("after it")
        self._progress.step("the next one")
        raise AssertionError("it went on")

    monkeypatch.setattr(Build, "run", run)
    with pytest.raises(Exit) as caught:
        box.build(Context())
    assert (caught.value.code, steps) == (130, ["after it"])
    assert signal.getsignal(signal.SIGINT) is before
    assert not place.exists()


@pytest.mark.parametrize("setting", ["image.user=Root", "image.disk_size=1G", "image.suite=sid"])
def test_a_setting_out_of_range_is_refused(setting: str, place: Path) -> None:
    with pytest.raises(Exit, match=rf"^error: setting {setting.partition('=')[0]}"):
        box.build(Context(), set=[setting])
    assert not place.parent.exists()
