"""One task over many hosts, called as Fabric and Invoke call it: who is done, what is said."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import fabric
import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import DeployError, PreflightError, UnreachableError
from tasks.desk.progress import HostProgress, exit_on_error
from tasks.hosts import fleet
from tasks.hosts.connection import Host
from tasks.hosts.fleet import enlist, finish


@pytest.fixture(autouse=True)
def _nobody_is_enlisted() -> Iterator[None]:
    yield
    fleet._enlisted.clear()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the hosts whose connections were closed."""
    names: list[str] = []
    monkeypatch.setattr(Host, "close", lambda self: names.append(self.name))
    return names


def connections(*names: str) -> list[fabric.Connection]:
    return [fabric.Connection(name) for name in names]


def _run(work: Any, *names: str) -> dict[str, Any]:
    reported: list[Mapping[str, Any]] = []
    for connection in connections(*names):
        enlist(connection, work, lambda results, _failed: reported.append(results))
    try:
        finish(Context())
    finally:
        [results] = reported or [{}]
    return dict(results)


def test_all_hosts_are_worked_on_side_by_side(closed: list[str]) -> None:
    together = threading.Barrier(3, timeout=10)

    def work(host: Host, _progress: HostProgress) -> str:
        together.wait()  # breaks if one of them were to wait for another's end
        return host.name.upper()

    assert _run(work, "c", "a", "b:2222") == {"c": "C", "a": "A", "b:2222": "B:2222"}
    assert set(closed) == {"a", "b:2222", "c"}


def test_results_come_in_the_order_of_the_command_line(closed: list[str]) -> None:
    first_may_end = threading.Event()

    def work(host: Host, _progress: HostProgress) -> None:
        if host.name == "first":
            assert first_may_end.wait(10)
        first_may_end.set()

    assert list(_run(work, "first", "second")) == ["first", "second"]
    assert closed


def test_one_that_fails_stops_no_other(
    closed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    reported: list[tuple[Mapping[str, Any], Collection[str]]] = []

    def work(host: Host, _progress: HostProgress) -> str:
        if host.name == "bad":
            raise DeployError("bad: Install packages: no [space] left")
        if host.name == "gone":
            raise UnreachableError("goneness")
        return "well"

    for connection in connections("bad", "good", "gone"):
        enlist(connection, work, lambda *outcome: reported.append(outcome))
    with pytest.raises(Exit) as caught:
        finish(Context())
    assert caught.value.code == 1
    assert reported == [({"good": "well"}, ["bad", "gone"])]
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error:")] == [
        "error: bad: Install packages: no [space] left",
        "error: gone: goneness",
    ]
    assert set(closed) == {"bad", "good", "gone"}


def _fails_oddly(host: Host, _progress: HostProgress) -> str:
    if host.name == "odd:2222":
        raise KeyError("ROLE [of a box]\nand more")
    if host.name == "mute":
        raise AssertionError
    return "well"


def test_an_error_that_nobody_foresaw_is_its_hosts_line_too(
    closed: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others go on, and the trace is in the file that the line names."""
    monkeypatch.setattr(fleet, "LOGS", tmp_path / "logs")
    reported: list[tuple[Mapping[str, Any], Collection[str]]] = []
    for connection in connections("odd:2222", "good", "mute"):
        enlist(connection, _fails_oddly, lambda *outcome: reported.append(outcome))
    with pytest.raises(Exit) as caught:
        finish(Context())
    assert caught.value.code == 1
    assert reported == [({"good": "well"}, ["odd:2222", "mute"])]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    log = tmp_path / "logs" / "odd:2222.log"
    assert errors == [
        f"error: odd:2222: KeyError: 'ROLE [of a box]\\nand more' (traceback: {log})",
        f"error: mute: AssertionError: no message (traceback: {tmp_path}/logs/mute.log)",
    ]
    assert "in _fails_oddly" in log.read_text()
    assert set(closed) == {"odd:2222", "good", "mute"}


def test_two_hosts_never_share_a_log(
    closed: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "LOGS", tmp_path)
    names = ("a/b", "a_b", "a%2Fb", "..", "../x")

    def work(host: Host, _progress: HostProgress) -> str:
        raise KeyError(f"{host.name}\x1b[2J\ud800")

    with pytest.raises(Exit):
        _run(work, *names)
    logs = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert sorted(logs) == ["..%2Fx.log", "...log", "a%252Fb.log", "a%2Fb.log", "a_b.log"]
    assert not [text for text in logs.values() if "\x1b" in text]
    assert "\x1b" not in capsys.readouterr().err
    assert len(closed) == len(names)


@pytest.mark.parametrize("words", ["a:22x", "a:0", "a:65536", "a:-1", ":22", "", "root@"])
def test_what_is_no_host_is_one_line(words: str) -> None:
    """Fabric's own is a traceback."""
    with pytest.raises(Exit) as caught:
        fabric.Connection(words)
    assert caught.value.code == 1
    assert str(caught.value) == (
        f"error: -H {shlex.quote(words)}: write USER@HOST:PORT; a port is 1 to 65535"
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("a", ("a", 22)),
        ("u@a.example:2222", ("a.example", 2222)),
        ("fe80::1", ("fe80::1", 22)),
        ("u@::1", ("::1", 22)),
    ],
)
def test_what_is_a_host(words: str, parts: tuple[str, int]) -> None:
    connection = fabric.Connection(words)
    assert (connection.host, connection.port) == parts


def test_where_no_log_can_be_written_the_line_says_so(
    closed: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(fleet, "LOGS", tmp_path / "file" / "logs")
    with pytest.raises(Exit):
        _run(_fails_oddly, "mute")
    assert "(the traceback cannot be written: Not a directory)" in capsys.readouterr().err
    assert closed


def test_to_connect_changes_nothing_that_other_hosts_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fabric gives all of a command line one config, which is empty while it merges a change."""
    connection = fabric.Connection("127.0.0.1", port=1, config=fabric.Config())
    monkeypatch.setattr(fabric.Config, "merge", lambda _: pytest.fail("the config was changed"))
    with pytest.raises(UnreachableError, match="port 1 "):
        Host(connection).connect()


def test_the_next_task_begins_with_nobody(closed: list[str]) -> None:
    _run(lambda *_: None, "a")
    assert fleet._enlisted == []
    assert _run(lambda *_: 1, "b") == {"b": 1}
    assert closed


def test_an_interrupt_closes_the_connections_and_exits_with_130(
    closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_futures: object) -> Iterator[None]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(fleet, "as_completed", interrupted)
    for connection in connections("a", "b"):
        enlist(connection, lambda *_: None, lambda *_: pytest.fail("there is nothing to report"))
    with pytest.raises(Exit) as caught:
        finish(Context())
    assert caught.value.code == 130
    assert str(caught.value).startswith("interrupted: ")
    assert set(closed) == {"a", "b"}


def test_without_a_host_fab_says_so() -> None:
    context = Context(fabric.Config())
    with pytest.raises(Exit) as caught:
        enlist(context, lambda *_: None, lambda *_: None)
    assert str(caught.value) == "error: no host is named: say fab -H HOST TASK"
    assert caught.value.code == 1


def test_without_a_guest_inv_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "GUEST", tmp_path / "guest")
    with pytest.raises(Exit) as caught:
        enlist(Context(), lambda *_: None, lambda *_: None)
    assert str(caught.value).startswith("error: no guest runs here: start one with inv up")
    assert caught.value.code == 1


def test_a_guest_that_was_never_finished_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "GUEST", tmp_path)  # a folder, without guest.json
    with pytest.raises(Exit, match="no guest runs here"):
        enlist(Context(), lambda *_: None, lambda *_: None)


def test_another_fault_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        raise ZeroDivisionError
    with pytest.raises(Exit, match=r"^error: no$"), exit_on_error():
        raise PreflightError("no")


def test_a_host_that_is_named_twice_is_refused_before_any_work() -> None:
    done: list[str] = []
    with pytest.raises(Exit, match=r"^error: a is named twice$"):
        _run(lambda host, _progress: done.append(host.name), "a", "b", "root@a:22")
    assert not done
