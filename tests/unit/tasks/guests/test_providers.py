"""A provider of guests is a row: what knows one by its row knows a new one too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from rich.progress import Progress

from deploys.errors import BoxError, PreflightError
from deploys.settings import Settings
from tasks import box
from tasks.boxes import start
from tasks.boxes.finalize import shippable
from tasks.desk import shell
from tasks.desk.progress import HostProgress
from tasks.desk.ssh_keys import Login
from tasks.guests import Order, Provider, providers
from tasks.hosts import fleet

PROGRESS = HostProgress("guest", Progress(disable=True))


@dataclass
class Cloud:
    """A guest of a provider that nobody has: its folder has a note when it is there."""

    directory: Path
    provider = "cloud"
    alive = True
    is_box = True
    page = "http://cloud/"
    disk_usage = 0
    off_to_compact = False

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        return cls(directory) if (directory / "cloud.json").exists() else None

    @property
    def root_disk(self) -> Path:
        return self.directory / "disk"

    @property
    def login(self) -> Login:
        return Login("cloud", 22, "vagrant", self.directory / "key", self.directory / "known")

    def compact(self) -> int:
        return 0

    def halt(self, deadline: float = 600) -> None:
        pass

    def destroy(self) -> None:
        pass


def make(order: Order) -> Cloud:
    assert not order.bare
    order.directory.mkdir(exist_ok=True)
    (order.directory / "cloud.json").touch()
    return Cloud(order.directory)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Provider:
    row = Provider(
        name="cloud",
        title="Cloud",
        guest=Cloud,
        start=make,
        programs={"cloudctl": "cloud-tools"},
        bare=False,
        finalizes=False,
    )
    monkeypatch.setitem(providers.PROVIDERS, "cloud", row)
    return row


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(start, "GUEST", tmp_path / "guest")
    monkeypatch.setattr(fleet, "GUEST", tmp_path / "guest")
    monkeypatch.setattr(start, "box_image", lambda *_: pytest.fail("built"))
    return tmp_path / "guest"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cloudctl").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("row")
def test_help_and_refusal_name_it(folder: Path) -> None:
    assert not folder.exists()
    said = providers.help_line()
    assert said == "What runs a new guest: qemu, virtualbox or cloud; without it, qemu."
    with pytest.raises(BoxError, match=r"'vmware': say qemu, virtualbox or cloud$"):
        start.start(Settings(), PROGRESS, provider="vmware")


@pytest.mark.usefixtures("row", "installed")
def test_it_is_started_and_found_again(folder: Path) -> None:
    assert start.start(Settings(), PROGRESS, provider="cloud").page == "http://cloud/"
    assert start.start(Settings(), PROGRESS) == providers.load(folder) == Cloud(folder)
    assert fleet.guest_host().name == "cloud"
    with pytest.raises(BoxError, match="a guest of cloud already: remove it first, with inv"):
        start.start(Settings(), PROGRESS, provider="qemu")


@pytest.mark.usefixtures("row")
def test_what_it_lacks_is_said_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(shell.CommandError, match=r"cloudctl is not .* package is cloud-tools$"):
        start.start(Settings(), PROGRESS, provider="cloud")


@pytest.mark.usefixtures("folder")
def test_what_it_cannot_do_is_refused(row: Provider, tmp_path: Path) -> None:
    line = "Cloud runs no bare host: leave out --bare or say --provider qemu"
    with pytest.raises(BoxError, match=line):
        start.start(Settings(), PROGRESS, bare=True, provider="cloud")
    with pytest.raises(PreflightError, match=r"the guest is Cloud's: .* inv up --provider qemu"):
        shippable(Cloud(tmp_path))
    providers.PROVIDERS["cloud"] = Provider(
        row.name, row.title, row.guest, row.start, row.programs, bare=False, finalizes=True
    )
    assert shippable(one := Cloud(tmp_path)) is one


def test_the_help_of_up_is_of_the_table() -> None:
    assert box.up.help["provider"] == providers.help_line()


def test_each_row_has_the_name_that_its_guests_have() -> None:
    for name, row in providers.PROVIDERS.items():
        assert row.name == name
        assert vars(row.guest)["provider"] == name
