"""fab secure: what is asked of the box, where the password goes, what is refused before."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from typing import Any

import fabric
import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.box import ROLES
from deploys.facts.state import HostState, Verdict
from deploys.services.secure import SECURE
from tasks.host import secure
from tasks.hosts import fleet
from tasks.hosts.connection import Host
from tests.unit.tasks.hosts.descriptors import descriptor_of

KEY = "SHA256:" + "h" * 43
PASSWORD = "a long $(word)"
GIVEN = {"role": "worker", "site": "gw.example.org", "username": "ada"}


@pytest.fixture
def answers() -> dict[str, str]:
    """What commands print whose line begins so."""
    return {
        f"{SECURE} --show-host-key=gw.example.org": f"{KEY}\n",
        f"{SECURE} --role": "lock: shut\nrunsecure: this box is a worker of gw.example.org\n",
    }


@pytest.fixture(autouse=True)
def asked(
    answers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[tuple[str, bytes | None]]]:
    """What was run on the box, with its standard input."""
    commands: list[tuple[str, bytes | None]] = []

    def run(_host: Host, command: str, stdin: bytes | None = None) -> str:
        commands.append((command, stdin))
        return next(text for start, text in answers.items() if command.startswith(start))

    def state(host: Host) -> HostState:
        verdict = "golden" if host.name == "resting" else "fresh"
        defaults = {} if host.name == "bare" else {"VOLGROUP": "x"}
        role = "gateway" if host.name == "gw" else "devel"
        return HostState(release={"ROLE": role}, verdict=Verdict(verdict), defaults=defaults)

    monkeypatch.setattr(Host, "run", run)
    monkeypatch.setattr(Host, "state", state)
    monkeypatch.setattr(Host, "connect", lambda _: None)
    monkeypatch.setattr(Host, "close", lambda _: None)
    yield commands
    fleet._enlisted.clear()


def call(host: str = "box", **flags: Any) -> None:
    secure(fabric.Connection(host), **{**GIVEN, **flags})
    fleet.finish(Context())


@pytest.fixture
def descriptor() -> Iterator[int]:
    with descriptor_of(f"{PASSWORD}\nand more".encode()) as reading:
        yield reading


def test_the_password_goes_to_standard_input_alone(
    asked: list[tuple[str, bytes | None]], descriptor: int, capsys: pytest.CaptureFixture[str]
) -> None:
    call(host_key=KEY, password_fd=descriptor)
    [(command, stdin)] = asked
    words = "--role=worker --site=gw.example.org --username=ada"
    assert command.startswith(f"{SECURE} {words} --host-key={KEY} --password-fd=0 ")
    assert stdin == f"{PASSWORD}\n".encode()
    said = capsys.readouterr()
    assert "box: this box is a worker of gw.example.org\n" in said.out
    assert PASSWORD not in said.out + said.err + command


def test_one_password_serves_all_hosts_of_a_command_line(
    asked: list[tuple[str, bytes | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fabric calls the task once for each host; the person is asked once."""
    typed = iter([PASSWORD])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for host in ("box", "other"):
        secure(fabric.Connection(host), **GIVEN, host_key=KEY)
    fleet.finish(Context())
    assert [stdin for _, stdin in asked] == [f"{PASSWORD}\n".encode()] * 2


@pytest.mark.parametrize("answer", ["y", "n"])
def test_the_host_key_is_shown_and_asked_about(
    answer: str,
    asked: list[tuple[str, bytes | None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    monkeypatch.setattr(getpass, "getpass", lambda _: PASSWORD)
    if answer == "n":
        with pytest.raises(Exit, match="nothing was changed"):
            call()
        assert len(asked) == 1
    else:
        call()
        assert f"--host-key={KEY}" in asked[1][0]
    assert f"box: the host key of gw.example.org is {KEY}" in capsys.readouterr().out


def test_what_the_box_refuses_is_one_line(
    answers: dict[str, str], descriptor: int, capsys: pytest.CaptureFixture[str]
) -> None:
    answers[f"{SECURE} --role"] = "secure: gw.example.org does not let ada in\nit failed\n"
    with pytest.raises(Exit):
        call(host_key=KEY, password_fd=descriptor)
    assert "error: box: gw.example.org does not let ada in\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("bare", "bare is not a box yet: provision it first"),
        ("gw", "gw is a gateway: it can have no other role"),
        ("resting", "resting does not run on a snapshot: see fab -H resting status"),
    ],
)
def test_only_a_box_at_work_is_given_a_part(
    host: str,
    line: str,
    asked: list[tuple[str, bytes | None]],
    descriptor: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Exit):
        call(host, host_key=KEY, password_fd=descriptor)
    assert f"error: {line}" in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"role": "king"}, f"say --role {' or '.join(ROLES)}, --site and --username"),
        ({"role": "gateway"}, "provision --role gateway makes a gateway"),
        ({"site": ""}, "--site and --username"),
        ({"username": ""}, "--site and --username"),
        ({}, "there is no terminal to show"),
        ({"host_key": KEY}, "there is no terminal to ask"),
        ({"host_key": KEY, "password_fd": 99}, "--password-fd 99"),
    ],
)
def test_what_is_not_said_is_refused(
    flags: dict[str, Any],
    line: str,
    asked: list[tuple[str, bytes | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(Exit, match=line):
        call(**flags)
    assert asked == []
