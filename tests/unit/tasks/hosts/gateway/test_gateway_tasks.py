"""The tasks on a gateway: what is asked of it, where the password goes, what is refused before."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from typing import Any

import fabric
import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import BoxError
from deploys.facts.state import HostState, Verdict
from deploys.services.gateway import OWNERS
from tasks import gateway
from tasks.desk.flags import load
from tasks.hosts import fleet
from tasks.hosts.connection import Host
from tasks.hosts.gateway import owners, queue
from tests.unit.tasks.hosts.descriptors import descriptor_of

KEY = "SHA256:" + "k" * 43
NO_GATEWAY = "is not a gateway: name one with fab -H, or provision one with --role gateway"
HOST_KEY = "SHA256:" + "h" * 43
JOB = "TE_000000000111_000-and-MO_405512056662_005-0123456789ab"
MODEL = "SW_StillingerWeber_1985_Si__MO_405512056662_005"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes | None]]]:
    """What was run on the gateway, with its standard input; the host of the name box is none."""
    commands: list[tuple[str, bytes | None]] = []

    def run(_host: Host, command: str, stdin: bytes | None = None) -> str:
        commands.append((command, stdin))
        answers = {
            # bob's has no quota, as on a gateway of an older version
            f"{OWNERS} list": f"ada {KEY} 1767225600 3 2097152 2147483648\n"
            f"ada.w1-0a1b2c3d {KEY} 1767225600 1767312000\nada.w2-0a1b2c3e {KEY} 1767225600 0\n"
            f"bob {KEY} 1767225660 0\n",
            f"{OWNERS} remove nan": "nan had no account\n",
            f"{OWNERS} hostkey": f"{HOST_KEY}\n",
            queue._PSQL: "2\n",
        }
        return "1\n0\n3\n" if queue._ITEMS in command else answers.get(command, "")

    def state(host: Host) -> HostState:
        role = {"box": "devel", "bare": ""}.get(host.name, "gateway")
        verdict = "golden" if host.name == "resting" else "fresh"
        return HostState(release={"ROLE": role}, verdict=Verdict(verdict))

    monkeypatch.setattr(Host, "run", run)
    monkeypatch.setattr(Host, "state", state)
    monkeypatch.setattr(Host, "close", lambda _: None)
    monkeypatch.setenv("COLUMNS", "80")
    yield commands
    fleet._enlisted.clear()


def call(task: Any, *words: str, host: str = "gw", **flags: Any) -> None:
    task(fabric.Connection(host), *words, **flags)
    fleet.finish(Context())


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Of a pipe that a password can be read from."""
    with descriptor_of(b"a long word\nand more") as reading:
        yield reading


def test_an_account_is_made_and_shown(
    asked: list[tuple[str, bytes | None]], descriptor: int, capsys: pytest.CaptureFixture[str]
) -> None:
    call(gateway.adduser, "ada", password_fd=descriptor)
    assert (f"{OWNERS} add ada", b"a long word\n") in asked
    assert [stdin for command, stdin in asked if " add " not in command] == [None] * 4
    out = capsys.readouterr().out
    assert f"gw: host key {HOST_KEY}" in out.splitlines()
    assert ("ada" in out, "bob" in out) == (True, False)
    assert "2026-01-01 00:00" in out
    shown = "".join(line.split("│")[2].strip() for line in out.splitlines() if "│" in line)
    assert shown == KEY * 3  # none of it is cut off, however narrow the terminal


def test_a_new_key_has_to_be_asked_for(
    asked: list[tuple[str, bytes | None]], descriptor: int
) -> None:
    call(gateway.adduser, "ada", force=True, password_fd=descriptor)
    assert (f"{OWNERS} add ada --force", b"a long word\n") in asked


def test_an_account_is_removed_and_the_others_are_shown(
    asked: list[tuple[str, bytes | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    call(gateway.deluser, "eve")
    assert (f"{OWNERS} remove eve", None) in asked
    assert "bob" in capsys.readouterr().out
    call(gateway.deluser, "nan")
    assert capsys.readouterr().out.splitlines()[-1] == "gw: nan had no account"


def test_the_boxes_of_an_owner_are_shown_and_one_is_revoked(
    asked: list[tuple[str, bytes | None]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    call(gateway.revoke, "ada.w2-0a1b2c3e")
    assert (f"{OWNERS} revoke ada.w2-0a1b2c3e", None) in asked
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if "ada.w1-" in line]
    (second,) = [line for line in lines if "ada.w2-" in line]
    assert ("2026-01-02 00:00" in first, "never" in second) == (True, True)


@pytest.mark.usefixtures("asked")
def test_owners_and_boxes_are_printed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    call(gateway.users, json=True)
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["host_key"] == HOST_KEY
    ada = found["owners"][0]
    assert [box["name"] for box in ada["boxes"]] == ["ada.w1-0a1b2c3d", "ada.w2-0a1b2c3e"]
    assert [box["seen"] for box in ada["boxes"]] == ["2026-01-02T00:00:00Z", None]


@pytest.mark.parametrize("box", ["", "ada", "ada.", ".w1", "ada.W1", "ada.w1;id", "a.b.c", "--x"])
def test_no_gateway_is_asked_for_a_box_that_is_none(
    box: str, asked: list[tuple[str, bytes | None]]
) -> None:
    with pytest.raises(Exit, match=r"is no box: write OWNER\.BOX"):
        call(gateway.revoke, box)
    assert asked == []


def test_what_an_owner_uses_of_his_quota_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    call(gateway.users)
    assert "2 MiB of 2.0 GiB" in capsys.readouterr().out


def test_a_gateway_has_room_for_an_owner_and_the_queue() -> None:
    with pytest.raises(BoxError, match=r"gateway.quota and gateway.queue, 3G, are more than"):
        load(overrides=["role=gateway", "gateway.quota=2G"])


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("box", f"box {NO_GATEWAY}"),
        ("bare", f"bare {NO_GATEWAY}"),
        ("resting", "resting does not run on a snapshot: see fab -H resting status"),
    ],
)
def test_only_a_gateway_at_work_is_asked(
    host: str,
    line: str,
    asked: list[tuple[str, bytes | None]],
    descriptor: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Exit):
        call(gateway.adduser, "ada", host=host, password_fd=descriptor)
    assert f"error: {line}" in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("name", ["", "Ada", "a b", "$(id)", "a" * 33, "9", "a\n", "--force"])
def test_no_gateway_is_asked_for_a_name_that_is_none(
    name: str, asked: list[tuple[str, bytes | None]]
) -> None:
    for task in (gateway.adduser, gateway.deluser):
        with pytest.raises(Exit, match="owner's name"):
            call(task, name)
    assert asked == []


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (b"", "a password has 8 to 256"),
        (b"short\n", "a password has 8 to 256"),
        (b"x" * 257, "a password has 8 to 256"),
        (b"a\tlong word\n", "printable characters"),
        (b"a long w\xfford\n", "--password-fd"),
    ],
)
def test_what_is_no_password(typed: bytes, line: str) -> None:
    with descriptor_of(typed) as reading, pytest.raises(BoxError, match=line):
        owners.read_password("ada", reading)
    with pytest.raises(BoxError, match="--password-fd"):
        owners.read_password("ada", reading)


def test_a_password_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["a long word", "a long word", "a long word", "another word"])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(BoxError, match="there is no terminal"):
        owners.read_password("ada", -1)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert owners.read_password("ada", -1) == "a long word"
    with pytest.raises(BoxError, match="the two passwords differ"):
        owners.read_password("ada", -1)


def test_one_password_is_asked_for_and_serves_all_gateways(
    asked: list[tuple[str, bytes | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fabric calls the task once for each host; the person types it once, and once more."""
    typed = iter(["a long word", "a long word"])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for host in ("gw", "other"):
        gateway.adduser(fabric.Connection(host), "ada")
    fleet.finish(Context())
    given = [stdin for command, stdin in asked if " add " in command]
    assert given == [b"a long word\n"] * 2


@pytest.mark.parametrize(
    ("task", "words", "said", "printed"),
    [
        (gateway.retry, {"failed": True}, "gw: 2 jobs run again", {"jobs": 2}),
        (gateway.cancel, {"jobs": JOB}, "gw: 2 jobs are cancelled", {"jobs": 2}),
        (
            gateway.submit,
            {"item": MODEL, "priority": 7},
            f"gw: {MODEL} is on the queue; 3 of its pairs have results, and run again only in other"
            " versions",
            {"kimid": MODEL, "priority": 7, "status": "approved", "with_results": 3},
        ),
    ],
)
def test_what_an_operator_is_told_is_there_for_programs_too(
    task: Any,
    words: dict[str, Any],
    said: str,
    printed: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    task(fabric.Connection("gw"), **words)
    assert capsys.readouterr().out == f"{said}\n"
    task(fabric.Connection("gw"), **words, json=True)
    assert json.loads(capsys.readouterr().out) == printed
