"""A build that fails or is interrupted leaves no mount, no loop device, no half file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from rich.progress import Progress

from deploys.errors import BoxError, PreflightError
from tasks import building
from tasks.building import Build
from tasks.machines import archive, loop
from tasks.progress import HostProgress
from tasks.settings import load
from tests.storage.commands import run

# It would be built with the packages of an archive that is none.
SETTINGS = load(None, ["stack.openkim-python.source=none"])


class Steps(HostProgress):
    """Progress that does something at a step."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        super().__init__("box", Progress(disable=True))
        self._at = name
        self._act = act

    def step(self, name: str) -> None:
        if name == self._at:
            self._act()


def held() -> tuple[str, str]:
    """What can be left behind."""
    return run("losetup", "--list", "--noheadings"), run("findmnt", "--raw", "--noheadings")


@pytest.fixture
def out(loop_disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the last good image lies; the packages are a tree of empty folders."""
    assert loop_disk
    images, tree = tmp_path / "images", tmp_path / "tree"
    images.mkdir()
    for name in ("proc", "sys", "dev", "run"):
        (tree / name).mkdir(parents=True)
    run("tar", "-cf", tmp_path / "layer.tar", "-C", tree, ".")
    found = archive.Archive((), (), "digest", 1_790_000_000)
    monkeypatch.setattr(building, "IMAGES", images)
    monkeypatch.setattr(archive, "read", lambda *_: found)
    layer = archive.Layer(tmp_path / "layer.tar", found.date)
    monkeypatch.setattr(archive, "layer", lambda *_: layer)
    file = tmp_path / "out" / "box.raw"
    file.parent.mkdir()
    file.write_text("the last good image")
    before = held()
    yield file
    assert held() == before
    assert file.read_text() == "the last good image"
    assert list(file.parent.iterdir()) == [file]
    assert {left.name for left in images.iterdir()} <= {"build.lock"}


@pytest.mark.parametrize("step", ["unpacking the packages", "applying the deploys"])
def test_ctrl_c_leaves_nothing(out: Path, step: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Build(SETTINGS, out, Steps(step, interrupt)).run()


def test_a_full_disk_leaves_nothing(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an image with holes where the files that were lost should be."""
    junk = tmp_path / "tree/junk"
    junk.write_bytes(os.urandom(40 * 2**20))
    run("tar", "-rf", tmp_path / "layer.tar", "-C", tmp_path / "tree", "junk")
    small = tmp_path / "images"
    before = held()
    with loop.mounted("small", small, "-t", "tmpfs", "-o", "size=30M"):
        with pytest.raises(PreflightError, match=r"images has .* free, a build needs"):
            Build(SETTINGS, out, Steps("", lambda: None)).run()
        monkeypatch.setattr(Build, "_check_disk", lambda *_: None)
        with pytest.raises(BoxError, match="images: the disk is full or failing"):
            Build(SETTINGS, out, Steps("", lambda: None)).run()
    assert held() == before


def test_a_root_that_runs_nothing_is_one_line(out: Path) -> None:
    with pytest.raises(BoxError, match=r"^the image: connecting: ") as caught:
        Build(SETTINGS, out, Steps("", lambda: None)).run()
    assert "\n" not in str(caught.value)


def test_a_second_build_is_refused(out: Path) -> None:
    with (
        FileLock(out.parents[1] / "images" / "build.lock"),
        pytest.raises(BoxError, match="being built here already"),
    ):
        Build(SETTINGS, out, Steps("", lambda: None)).run()


def test_an_image_in_use_is_refused(out: Path) -> None:
    with out.open("rb"), pytest.raises(BoxError, match=r"is in use by .*halt the guest first"):
        Build(SETTINGS, out, Steps("", lambda: None)).run()


def test_a_folder_that_is_not_there_is_refused(out: Path) -> None:
    with pytest.raises(BoxError, match="is no folder"):
        Build(SETTINGS, out.parent / "no" / "box.raw", Steps("", lambda: None)).run()
    with pytest.raises(BoxError, match="is a folder: name a file"):
        Build(SETTINGS, out.parent, Steps("", lambda: None)).run()


def test_a_time_that_is_none_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BoxError, match="SOURCE_DATE_EPOCH 'yesterday' is not a number"):
        Build(SETTINGS, out, Steps("", lambda: None)).run()
