"""shrink: the box trims; a local guest's disk is measured here, and compacted where that helps."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from rich.progress import Progress

from tasks.desk.progress import HostProgress
from tasks.hosts.shrink import Shrunk, shrink_box

PROGRESS = HostProgress("guest", Progress(disable=True))
LINES = ["/persistent trim 1024", "/ reset 0"]
GIVEN = [("/persistent", "trimmed", 1024), ("/", "left to the next reset", 0)]


@dataclass
class Machine:
    """A host and its guest in one; what was done to it, in order."""

    off_to_compact: bool
    verdict: str = "fresh"
    done: list[str] = field(default_factory=list)
    disk_usage: int = 500

    def run(self, command: str) -> str:
        if command.startswith("cat "):
            return "1800\n"
        self.done.append(command.removeprefix("/usr/lib/"))
        return "\n".join(LINES)

    def parsing(self, _what: str) -> nullcontext[None]:
        return nullcontext()

    def compact(self) -> int:
        self.done.append("compact")
        return 300

    def state(self) -> Any:
        return SimpleNamespace(verdict=SimpleNamespace(name=self.verdict))

    def connect(self) -> None:
        pass

    def close(self) -> None:
        self.done.append("close")

    def wait(self, deadline: float) -> None:
        self.done.append(f"wait {deadline}")


@pytest.fixture(autouse=True)
def _is_its_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.hosts.shrink.connected", lambda guest: guest)


def shrink(machine: Machine, *, local: bool = True) -> Shrunk:
    host: Any = machine
    return shrink_box(host, host if local else None, PROGRESS)


def test_a_remote_host_is_trimmed_and_that_is_all() -> None:
    machine = Machine(off_to_compact=True)
    assert shrink(machine, local=False) == Shrunk(GIVEN)
    assert machine.done == ["pipeline/shrink"]


def test_a_guest_whose_discards_pass_stays_on() -> None:
    machine = Machine(off_to_compact=False)
    assert shrink(machine) == Shrunk(GIVEN, disk=(500, 300))
    assert machine.done == ["pipeline/shrink", "compact"]


@pytest.mark.parametrize(
    ("verdict", "entry"), [("fresh", "keep"), ("kept", "keep"), ("golden", "maintenance")]
)
def test_one_that_must_be_off_comes_back_on_the_root_it_ran_on(verdict: str, entry: str) -> None:
    machine = Machine(off_to_compact=True, verdict=verdict)
    assert shrink(machine).disk == (500, 300)
    assert machine.done == [
        "pipeline/shrink",
        f"resnap/next-boot {entry}",
        *("close", "compact", "wait 1800", "close"),
    ]
