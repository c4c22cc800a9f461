"""The local guest: which machine it becomes, and that one that is there is not made again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.progress import Progress

from deploys.errors import BoxError
from deploys.settings import GIB, Settings
from tasks.boxes import start
from tasks.desk import shell
from tasks.desk.flags import load
from tasks.desk.progress import HostProgress
from tasks.desk.ssh_keys import Identity
from tasks.disks import box_disk
from tasks.guests import bare, credentials
from tasks.guests.qemu import Guest, accelerator
from tasks.guests.qemu.hardware import Machine

PROGRESS = HostProgress("guest", Progress(disable=True))
TCG = accelerator.Accelerator("tcg", "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The guest's folder, and below its parent an image of each kind; no tool runs."""
    guest = tmp_path / "guest"
    box, plain = tmp_path / "box.raw", tmp_path / "plain.raw"
    for file in (box, plain, tmp_path / "plain.vmlinuz"):
        file.write_text(file.name)
    base = bare.BaseImage(plain, tmp_path / "plain.vmlinuz", who(tmp_path))
    monkeypatch.setattr(start, "GUEST", guest)
    monkeypatch.setattr(start, "STATE", tmp_path)
    monkeypatch.setattr(shell, "find", lambda program, _: program)
    monkeypatch.setattr(start, "box_image", lambda *_: box)
    monkeypatch.setattr(bare, "build", lambda *_: base)
    monkeypatch.setattr(bare, "overlay", lambda _, file: file)
    monkeypatch.setattr(bare, "empty_disk", lambda file, _: file)
    monkeypatch.setattr(box_disk, "read_kernel", lambda disk, target: target.write_text(disk.name))
    monkeypatch.setattr(accelerator, "choose", lambda *_: TCG)
    monkeypatch.setattr(credentials, "make", lambda *_: (who(tmp_path), {"name": box}))
    return guest


def who(folder: Path) -> Identity:
    return Identity(user="vagrant", user_key=folder / "key", host_key="ssh-ed25519 A")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """The machines that were started."""
    machines: list[Machine] = []

    def start(directory: Path, machine: Machine, *_: object) -> Any:
        assert directory.is_dir()
        machines.append(machine)
        return SimpleNamespace(machine=machine)

    monkeypatch.setattr(Guest, "start", start)
    return machines


def there_is(
    monkeypatch: pytest.MonkeyPatch, folder: Path, machine: Machine, *, alive: bool
) -> SimpleNamespace:
    folder.mkdir()
    guest = SimpleNamespace(
        provider="qemu",
        is_box=bool(machine.credentials),
        machine=machine,
        identity=who(folder),
        alive=alive,
    )
    monkeypatch.setattr(Guest, "find", lambda _: guest)
    return guest


def test_a_new_guest_is_the_box(folder: Path, started: list[Machine]) -> None:
    start.start(load(overrides=["guest.cpus=3"]), PROGRESS)
    [machine] = started
    assert machine.disks == (folder / "root.qcow2",)
    assert (machine.cpus, list(machine.credentials)) == (3, ["name"])


def test_its_image_outlives_a_build(folder: Path, started: list[Machine]) -> None:
    start.start(Settings(), PROGRESS)
    assert len(started) == 1
    other = folder.parent / "other"
    other.write_text("another build")
    other.replace(folder.parent / "box.raw")
    assert (folder / "box.raw").read_text() == "box.raw"


def test_what_an_interrupted_start_left_is_made_again(folder: Path, started: list[Machine]) -> None:
    folder.mkdir()
    (folder / "box.raw").write_text("older")
    start.start(Settings(), PROGRESS)
    assert len(started) == 1
    assert (folder / "box.raw").read_text() == "box.raw"


def test_a_bare_guest_has_a_second_disk(folder: Path, started: list[Machine]) -> None:
    start.start(Settings(), PROGRESS, bare=True)
    [machine] = started
    assert machine.disks == (folder / "root.qcow2", folder / "spare.qcow2")
    assert not machine.credentials
    assert (folder / "vmlinuz").read_text() == "plain.vmlinuz"


def test_one_for_a_box_in_a_file_has_one_disk_with_room_for_it(
    folder: Path, started: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[object] = []

    def build(*words: object) -> bare.BaseImage:
        recipes.append(words[0])
        return bare.BaseImage(folder, folder.parent / "plain.vmlinuz", who(folder.parent))

    monkeypatch.setattr(bare, "build", build)
    start.start(load(overrides=["guest.disk_size=4G"]), PROGRESS, bare=True, in_file=16 * GIB)
    [machine] = started
    assert machine.disks == (folder / "root.qcow2",)
    assert recipes == [bare.Plain(22 * GIB)]
    there = SimpleNamespace(provider="qemu", is_box=False, alive=False)
    there.machine = Machine(disks=(folder / "root.qcow2", folder / "spare.qcow2"))
    monkeypatch.setattr(Guest, "find", lambda _: there)
    with pytest.raises(BoxError, match="which has a spare disk: remove it first, with inv destroy"):
        start.start(Settings(), PROGRESS, bare=True, in_file=GIB)
    assert len(started) == 1


def test_a_guest_that_is_off_is_powered_on_with_the_disks_it_has(
    folder: Path, started: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Machine(disks=(folder / "its.qcow2",), memory=2**29)
    there_is(monkeypatch, folder, before, alive=False)
    start.start(Settings(), PROGRESS)
    [machine] = started
    assert (machine.disks, machine.memory) == (before.disks, Settings().guest.memory)


def test_a_guest_that_runs_is_left_alone(
    folder: Path, started: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = there_is(monkeypatch, folder, Machine(disks=()), alive=True)
    found: object = start.start(Settings(), PROGRESS)
    assert found is guest
    assert not started


def test_a_box_is_not_passed_off_as_a_bare_host(
    folder: Path, started: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Machine(disks=(), credentials={"name": folder})
    there_is(monkeypatch, folder, box, alive=False)
    with pytest.raises(BoxError, match="inv destroy"):
        start.start(Settings(), PROGRESS, bare=True)
    assert not started
