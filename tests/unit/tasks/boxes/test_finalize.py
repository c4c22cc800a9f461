"""inv box.finalize: its flags, what it asks, which guests it refuses, and how it ends."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import BoxError, PreflightError, SettingsError
from deploys.facts.state import HostState
from deploys.settings import Settings
from tasks import box as tasks_box
from tasks import ns
from tasks.boxes.build import Built
from tasks.boxes.finalize import Finalizing, shippable
from tasks.desk.ssh_keys import Identity
from tasks.guests import qemu, virtualbox
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.connection import Host
from tasks.hosts.expectations import settings_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the image lies when no flag says otherwise; it is there, and can be built again."""
    box = tmp_path / "box.raw"
    box.touch()
    monkeypatch.setattr(tasks_box, "BOX", box)
    monkeypatch.setattr(tasks_box, "is_replaceable", lambda file: file == box)
    monkeypatch.setattr(tasks_box, "load", lambda _: "the guest")
    return box


@pytest.fixture
def finalized(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were asked for."""
    asked: list[Path] = []

    def run(self: Finalizing) -> Built:
        asked.append(self._out)
        state = HostState(release={"MANIFEST": "feed"})
        return Built(place, 1024, state)

    monkeypatch.setattr(Finalizing, "run", run)
    return asked


def test_it_has_its_name() -> None:
    assert "box.finalize" in ns.task_names


def test_it_says_what_was_made(
    place: Path, finalized: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks_box.finalize(Context())
    assert finalized == [place]
    said = capsys.readouterr().out
    assert f"image       {place}\n" in said
    assert "manifest    feed\n" in said
    assert "bin/inv box.package\n" in said


def test_a_file_that_cannot_be_built_again_is_asked_about(
    place: Path, finalized: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    other = place.with_name("other.raw")
    with pytest.raises(Exit, match=r"other.raw will be replaced. Say --force"):
        tasks_box.finalize(Context(), out=str(other))
    assert finalized == []
    tasks_box.finalize(Context(), out=str(other), force=True)
    assert finalized == [other]


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (BoxError("no room"), "error: no room", 1),
        (KeyboardInterrupt(), "interrupted: no image was made or changed; inv up starts", 130),
    ],
)
@pytest.mark.usefixtures("place")
def test_it_ends_in_one_line(
    error: BaseException, line: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: Finalizing) -> Built:
        raise error

    monkeypatch.setattr(Finalizing, "run", run)
    with pytest.raises(Exit) as caught:
        tasks_box.finalize(Context())
    assert str(caught.value).startswith(line)
    assert caught.value.code == code


@pytest.mark.usefixtures("place")
def test_not_root_is_one_line_before_the_guest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Exit, match=r"^error: making a box's disk image needs root"):
        tasks_box.finalize(Context())


def test_without_a_guest_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_box, "GUEST", tmp_path)
    with pytest.raises(Exit, match=r"^error: there is no guest in .*: make one with inv up$"):
        tasks_box.finalize(Context(), out=str(tmp_path / "new.raw"))


def guest(folder: Path, monkeypatch: pytest.MonkeyPatch, *, alive: bool, box: bool) -> qemu.Guest:
    given = {"name": folder} if box else {}
    who = Identity(user="vagrant", user_key=folder / "key", host_key="ssh-ed25519 A")
    machine = Machine(disks=(folder / "root.qcow2",), credentials=given)
    record = qemu._Record(machine=machine, identity=who, pid=0, port=0)
    monkeypatch.setattr(qemu.Guest, "alive", alive)
    return qemu.Guest(folder, record)


@pytest.mark.parametrize(
    ("alive", "box", "line"),
    [(False, True, "the guest is off: inv up"), (True, False, "the guest was a bare host")],
)
def test_a_guest_that_cannot_be_shipped_is_one_line(
    alive: bool, box: bool, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PreflightError, match=line):
        shippable(guest(tmp_path, monkeypatch, alive=alive, box=box))


def test_one_in_virtualbox_is_refused(tmp_path: Path) -> None:
    record = virtualbox._Record(uuid="u", port=1, user="vagrant", user_key=tmp_path)
    with pytest.raises(PreflightError, match=r"the guest is VirtualBox's: .* --provider qemu"):
        shippable(virtualbox.Guest(tmp_path, record))


def test_a_box_that_runs_can_be_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = guest(tmp_path, monkeypatch, alive=True, box=True)
    assert shippable(one) is one


def host(settings: str, defaults: dict[str, str]) -> Host:
    fake: Any = SimpleNamespace(
        name="box", state=lambda: HostState(defaults=defaults), run=lambda _: settings
    )
    return cast(Host, fake)


def test_the_settings_are_the_boxs_own() -> None:
    settings = Settings.model_validate({"stack": {"lammps": {"location": "lammps-data"}}})
    assert settings_of(host(settings.of_box(), {"VOLGROUP": "vg"})) == settings


@pytest.mark.parametrize("label", ["worker", "director"])
def test_a_role_that_was_but_a_label_is_devel(label: str) -> None:
    """Of a box of an older version; each pass of the box over itself reads its settings so."""
    written = Settings().of_box().replace('"role": "devel"', f'"role": "{label}"')
    assert settings_of(host(written, {"VOLGROUP": "vg"})) == Settings()


@pytest.mark.parametrize(
    ("settings", "defaults", "error", "line"),
    [
        ("{}", {}, PreflightError, "box is not a box yet: provision it first"),
        (
            '{"new": 1}',
            {"VOLGROUP": "vg"},
            SettingsError,
            "box: /etc/pipeline/settings.json: new: Extra inputs are not permitted",
        ),
        (
            '{"role": ',
            {"VOLGROUP": "vg"},
            SettingsError,
            "box: /etc/pipeline/settings.json: not JSON: "
            "Expecting value: line 1 column 10 (char 9)",
        ),
    ],
)
def test_a_host_without_settings_of_ours_is_one_line(
    settings: str, defaults: dict[str, str], error: type[BoxError], line: str
) -> None:
    with pytest.raises(error) as caught:
        settings_of(host(settings, defaults))
    assert str(caught.value) == line
