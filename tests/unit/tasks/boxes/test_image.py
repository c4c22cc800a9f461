"""The box's image in the state folder: built when it is not of these settings and this checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rich.progress import Progress

from deploys.errors import BoxError
from deploys.facts.state import HostState
from deploys.settings import Settings
from deploys.stack.bundle import Project
from tasks.boxes import image as boxes
from tasks.boxes.build import Build, Built
from tasks.desk.flags import load
from tasks.desk.progress import HostProgress
from tasks.stack import bundle

PROGRESS = HostProgress("box", Progress(disable=True))


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings of all builds; a build writes one file."""
    seen: list[Settings] = []

    def run(self: Build) -> Built:
        seen.append(self._settings)
        partial = self._out.with_name("partial")
        partial.write_text("image")
        os.utime(partial, ns=(0, len(seen)))
        return Built(partial.replace(self._out), 5, HostState())

    monkeypatch.setattr(Build, "run", run)
    monkeypatch.setattr(boxes, "BOX", tmp_path / "state/box.raw")
    monkeypatch.setattr(boxes, "_NOTE", tmp_path / "state/box.made-of")
    monkeypatch.setattr(boxes, "_FINALIZED", tmp_path / "state/box.finalized")
    monkeypatch.setattr(bundle, "project_version", lambda: Project("one", "1"))
    return seen


def test_it_is_built_once(builds: list[Settings], tmp_path: Path) -> None:
    image = boxes.box_image(Settings(), PROGRESS)
    assert image == boxes.box_image(Settings(), PROGRESS) == tmp_path / "state/box.raw"
    assert len(builds) == 1


# A second value of each setting that no image depends on.
OF_THE_DESK = {
    "boot.reboot_deadline": "1800",
    "guest.cpus": "1",
    "guest.disk_size": "9G",
    "guest.memory": "1G",
    "guest.spare_size": "25G",
    "package.name": "ada/box",
    "package.url": "https://example.org/",
    "package.version": "2.0",
}
OF_THE_IMAGE = {
    "boot.deadline": "60",
    "image.user": "ada",
    "jobs.seconds": "60",
    "setup.branch": "next",
    "volumes.boot_size": "300M",
}


def test_what_only_the_desk_heeds_is_no_part_of_it(builds: list[Settings]) -> None:
    boxes.box_image(Settings(), PROGRESS)
    overrides = [f"{name}={value}" for name, value in OF_THE_DESK.items()]
    changed = load(overrides=overrides)
    assert changed != Settings()
    boxes.box_image(changed, PROGRESS)
    assert len(builds) == 1


def test_each_setting_is_the_images_or_the_desks() -> None:
    """A new one is the image's, unless it has the mark."""
    of_image = json.loads(Settings().of_image())
    every = json.loads(Settings().model_dump_json())
    missing = {
        f"{section}.{name}"
        for section, values in every.items()
        if isinstance(values, dict)
        for name in values
        if name not in of_image.get(section, {})
    }
    assert missing == set(OF_THE_DESK)


@pytest.mark.parametrize("name", OF_THE_IMAGE)
def test_a_setting_of_the_image_makes_another(builds: list[Settings], name: str) -> None:
    boxes.box_image(Settings(), PROGRESS)
    boxes.box_image(load(overrides=[f"{name}={OF_THE_IMAGE[name]}"]), PROGRESS)
    assert len(builds) == 2


def test_other_settings_are_another_box(builds: list[Settings]) -> None:
    boxes.box_image(Settings(), PROGRESS)
    other = load(overrides=["stack=none"])
    boxes.box_image(other, PROGRESS)
    boxes.box_image(other, PROGRESS)
    assert [each.stack.packages for each in builds] == [Settings().stack.packages, ()]


def test_another_checkout_is_another_box(
    builds: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes.box_image(Settings(), PROGRESS)
    monkeypatch.setattr(bundle, "project_version", lambda: Project("two", "2"))
    boxes.box_image(Settings(), PROGRESS)
    assert len(builds) == 2


def test_a_file_that_took_its_place_is_not_it(builds: list[Settings]) -> None:
    boxes.box_image(Settings(), PROGRESS).write_text("other")
    boxes.box_image(Settings(), PROGRESS)
    assert len(builds) == 2


def test_a_box_that_was_asked_for_is_built_again(builds: list[Settings]) -> None:
    boxes.box_image(Settings(), PROGRESS)
    boxes.build_box(Settings(), PROGRESS)
    boxes.box_image(Settings(), PROGRESS)
    assert len(builds) == 2


def test_after_a_build_that_failed_it_is_built_again(
    builds: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Build) -> Built:
        raise BoxError("no")

    with monkeypatch.context() as patched:
        patched.setattr(Build, "run", fail)
        with pytest.raises(BoxError):
            boxes.box_image(Settings(), PROGRESS)
    boxes.box_image(Settings(), PROGRESS)
    assert len(builds) == 1


def finalized(folder: Path, *, named: bool = True) -> Path:
    """An image that was finalized, or is about to get its name."""
    image = folder / "state/box.raw.partial"
    image.parent.mkdir(exist_ok=True)
    image.write_text("finalized")
    boxes.note_finalized(image)
    return image.replace(folder / "state/box.raw") if named else image


def test_a_finalized_box_is_taken_whatever_the_settings(
    builds: list[Settings], tmp_path: Path
) -> None:
    image = finalized(tmp_path)
    assert boxes.box_image(load(overrides=["stack.lammps.source=none"]), PROGRESS) == image
    assert builds == []


def test_a_finalized_box_is_not_replaced_unasked(builds: list[Settings], tmp_path: Path) -> None:
    image = finalized(tmp_path)
    assert not boxes.is_replaceable(image)
    with pytest.raises(BoxError, match=r"was finalized and cannot be built again.*--force"):
        boxes.build_box(Settings(), PROGRESS)
    assert image.read_text() == "finalized"
    boxes.build_box(Settings(), PROGRESS, force=True)
    assert (image.read_text(), len(builds)) == ("image", 1)
    assert boxes.is_replaceable(image)


def test_what_is_no_image_of_ours_is_not_replaced_unasked(
    builds: list[Settings], tmp_path: Path
) -> None:
    assert builds == []
    assert boxes.is_replaceable(tmp_path / "new.raw")
    (tmp_path / "other.raw").touch()
    assert not boxes.is_replaceable(tmp_path / "other.raw")


def test_a_power_cut_before_the_rename_loses_neither(
    builds: list[Settings], tmp_path: Path
) -> None:
    first = finalized(tmp_path)
    second = finalized(tmp_path, named=False)
    assert boxes.is_finalized()
    second.replace(first)
    assert boxes.is_finalized()
    assert builds == []
