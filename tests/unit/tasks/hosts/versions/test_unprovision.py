"""The flow of giving a host back, over a stand-in for a host, and what a person is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import fabric
import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import DeployError, PreflightError
from deploys.facts.state import HostState, State, Verdict
from deploys.plan.survey import Survey
from deploys.reset.back.before import Before, Record
from deploys.reset.back.old_system import OldRoot, OldSystem
from tasks import host as tasks
from tasks.desk.progress import HostProgress
from tasks.hosts import fleet
from tasks.hosts.connection import Host
from tasks.hosts.versions import unprovision as ways_back
from tests.unit.deploys.reset import test_ways as hosts

ON_BOX = replace(hosts.BOX, verdict=Verdict("fresh"))
GOLDEN = replace(hosts.BOX, verdict=Verdict("golden"))


@dataclass
class FakeHost:
    """A host that boots into each of ``boots``, in turn, from the first."""

    boots: list[tuple[HostState, Survey, Before | None]]
    record: list[str] = field(default_factory=list)
    name: str = "box"
    blocked: bool = False

    def run(self, _command: str) -> str:
        return "1800\n"

    def require_reboot(self) -> None:
        if self.blocked:
            raise PreflightError("backup blocks it")

    def reboot(self, entry: str | None, deadline: float) -> HostState:
        assert deadline == 1800
        self.record.append(f"reboot {entry}")
        del self.boots[0]
        return self.boots[0][0]

    def close(self) -> None:
        self.record.append("closed")

    @contextlib.contextmanager
    def locked(self, task: str) -> Iterator[None]:
        self.record.append(f"locked for {task}")
        yield

    @contextlib.contextmanager
    def session(self, _observer: object = None) -> Iterator[FakeSession]:
        yield FakeSession(self)


@dataclass
class FakeSession:
    host: FakeHost

    def fact(self, fact: type[object], **_: object) -> Any:
        state, _survey, before = self.host.boots[0]
        old = OldSystem(there=True, noted=True, boots=True)
        return {State: state, Record: before, OldRoot: old}[fact]

    def prepare(self, deploys: Sequence[Any]) -> None:
        [deploy] = deploys
        self.host.record.append(f"{deploy.func.__name__} {deploy.keywords['way'].volgroup}")

    def run(self) -> None:
        self.host.record.append("done")


@pytest.fixture(autouse=True)
def surveys(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(fact: Callable[..., Any]) -> Survey:
        return fact.__self__.host.boots[0][1]  # type: ignore[attr-defined,no-any-return]

    monkeypatch.setattr(ways_back, "read_survey", read)


class Silent:
    def step(self, _name: str) -> None:
        pass


def give_back(host: FakeHost, *, wipe: bool = False) -> str:
    return ways_back.unprovision(cast(Host, host), cast(HostProgress, Silent()), wipe=wipe)


LEFT = (hosts.BARE, hosts.on_old_root(), hosts.OF_SPARE)
MERGING = replace(hosts.OF_LVM, kept="Swi-a-s")


@pytest.mark.usefixtures("two_volumes")
def test_a_plain_host_boots_its_old_root_and_is_cleaned_there() -> None:
    host = FakeHost([(ON_BOX, hosts.on_box(), hosts.OF_SPARE), LEFT])
    assert "no box any more" in give_back(host)
    group = "vagrant-pipeline"
    assert host.record == [
        f"leave {group}",
        "done",
        "reboot None",
        f"give_back {group}",
        "done",
    ]


@pytest.mark.usefixtures("two_volumes")
def test_what_broke_off_after_the_boot_goes_on_there() -> None:
    host = FakeHost([LEFT])
    give_back(host)
    assert host.record == ["give_back vagrant-pipeline", "done"]


@pytest.mark.usefixtures("two_volumes")
def test_a_root_on_lvm_goes_back_from_maintenance() -> None:
    host = FakeHost(
        [
            (ON_BOX, hosts.on_lvm(), hosts.OF_LVM),
            (GOLDEN, hosts.on_lvm("root"), hosts.OF_LVM),
            (hosts.BARE, hosts.on_lvm("root", *hosts.BOXES), MERGING),
        ]
    )
    give_back(host)
    boots = [what for what in host.record if what.startswith("reboot")]
    assert boots == ["reboot maintenance", "reboot None"]
    assert host.record[1] == "leave host-vg"


@pytest.mark.usefixtures("two_volumes")
def test_a_host_that_did_not_boot_its_old_root_keeps_all() -> None:
    on_box = (ON_BOX, hosts.on_box(), hosts.OF_SPARE)
    host = FakeHost([on_box, on_box])
    with pytest.raises(DeployError, match=r"^box: did not boot its old root"):
        give_back(host)
    assert host.record[-1] == "reboot None"


@pytest.mark.usefixtures("two_volumes")
def test_a_host_that_may_not_reboot_is_not_changed() -> None:
    host = FakeHost([(ON_BOX, hosts.on_box(), hosts.OF_SPARE)], blocked=True)
    with pytest.raises(PreflightError, match="backup blocks it"):
        give_back(host)
    assert host.record == []


@pytest.mark.parametrize("state", [hosts.BARE, hosts.BOX])
def test_a_host_without_a_record_is_refused(state: HostState) -> None:
    with pytest.raises(PreflightError, match=r"nothing to give back|no old root"):
        give_back(FakeHost([(state, hosts.on_box(), None)]))


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    """The host that a command line names."""
    host = FakeHost([(ON_BOX, hosts.on_box(), hosts.OF_SPARE), LEFT])
    monkeypatch.setattr(fleet, "host_of", lambda _: host)
    monkeypatch.setenv("COLUMNS", "120")
    yield host
    fleet._enlisted.clear()


def call(**flags: bool) -> None:
    tasks.unprovision(fabric.Connection("box"), **flags)
    fleet.finish(Context())


@pytest.mark.usefixtures("two_volumes")
def test_without_a_terminal_it_says_what_would_be_lost(box: FakeHost) -> None:
    with pytest.raises(Exit) as caught:
        call(wipe=True)
    assert str(caught.value) == (
        "error: box: The host goes back to the root OLD-UUID; /dev/vdb is erased, and /persistent "
        "(300 MiB in use) is lost. Say --force if that is meant."
    )
    assert box.record == ["closed"]


@pytest.mark.usefixtures("two_volumes")
def test_by_force_it_does_not_ask_and_holds_the_lock(
    box: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    call(force=True)
    assert box.record[0] == "locked for unprovision"
    assert capsys.readouterr().out == "box: it is no box any more, and runs on its old root\n"


@pytest.mark.usefixtures("two_volumes")
def test_a_dry_run_shows_what_goes_and_changes_nothing(
    box: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    call(dry_run=True)
    shown = capsys.readouterr().out
    for words in ("the root OLD-UUID", "boot sector", "lvm2 zstd", "keep"):
        assert words in shown
    assert box.record == ["closed"]


@pytest.mark.usefixtures("two_volumes")
def test_a_hostile_hosts_words_are_plain_in_the_question(box: FakeHost) -> None:
    state, survey, before = box.boots[0]
    assert before is not None
    hostile = replace(before, old_root="\x1b[2Jgood\nHost: yes")
    box.boots[0] = (state, survey, hostile)
    with pytest.raises(Exit) as caught:
        call()
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
