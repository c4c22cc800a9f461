"""inv box.package: its flags, and how it ends."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import BoxError
from tasks import box, ns
from tasks.boxes.ship import Packaging
from tasks.boxes.ship.formats import FORMATS


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder, with a disk image in it."""
    image = tmp_path / "box.raw"
    image.write_bytes(bytes(510) + b"\x55\xaa")
    monkeypatch.setattr(box, "BOX", image)
    monkeypatch.setattr(box, "PACKAGES", tmp_path / "packages")
    return tmp_path


def test_it_has_its_name() -> None:
    assert "box.package" in ns.task_names


def test_the_flags_reach_the_packaging(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Packaging] = []

    def run(self: Packaging) -> dict[str, Path]:
        seen.append(self)
        return {"ova": places / "box.raw"}

    monkeypatch.setattr(Packaging, "run", run)
    box.package(Context())
    flags = {"out": str(places / "o"), "format": ["ova"], "box_version": "2.0", "force": True}
    box.package(Context(), image=str(places / "i"), set=["package.name=a/b"], **flags)
    plain, flagged = seen
    assert (plain._image, plain._out) == (places / "box.raw", places / "packages")
    assert (list(plain._progress), plain._force) == (list(FORMATS), False)
    assert (flagged._image, flagged._out) == (places / "i", places / "o")
    assert (list(flagged._progress), flagged._force) == (["ova"], True)
    named = flagged._settings.package
    assert (named.name, named.version) == ("a/b", "2.0")
    assert f"ova         {places / 'box.raw'}, 512 bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"format": ["vmdk"]}, "there is no format 'vmdk'; did you mean "),
        ({"box_version": "one"}, "setting package.version: "),
        ({"box_version": "1.0 "}, "setting package.version: "),
        ({"set": ["package.name=a/b/c"]}, "setting package.name: "),
        ({"set": ["package.url=https://box.example.org"]}, "setting package.url: "),
        ({"set": ["package.url=https://me:secret@box.example.org/"]}, "setting package.url: "),
        ({"image": "nowhere.raw"}, "there is no image .*nowhere.raw: make one with inv box.build"),
        ({"image": "."}, "there is no image "),
        ({"out": "box.raw"}, "box.raw is a file: name a folder"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_made(
    flags: dict[str, object], line: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(places)
    assert set(flags) <= set(inspect.signature(box.package.body).parameters)
    with pytest.raises(Exit, match=line) as caught:
        box.package(Context(), **flags)
    assert caught.value.code == 1
    assert str(caught.value.message).startswith("error: ")
    assert "\n" not in str(caught.value.message)
    assert [each.name for each in places.iterdir()] == ["box.raw"]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BoxError("no room"), 1, "error: no room"),
        (KeyboardInterrupt(), 130, "interrupted: no package was made or changed"),
    ],
)
def test_a_fault_is_one_line(
    error: BaseException, code: int, line: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places.exists()

    def fail(_: Packaging) -> dict[str, Path]:
        raise error

    monkeypatch.setattr(Packaging, "run", fail)
    with pytest.raises(Exit) as caught:
        box.package(Context())
    assert (caught.value.code, str(caught.value.message)) == (code, line)


@pytest.mark.commands
def test_a_file_without_a_partition_table_is_no_disk(places: Path) -> None:
    (places / "box.raw").write_text("all kinds of text" * 100)
    with pytest.raises(Exit, match=r"box\.raw is no disk image: it has no partition table"):
        box.package(Context())
    assert [each.name for each in places.iterdir()] == ["box.raw"]
