"""A host that answers whatever it likes, beside one that is good.

It is a real SSH server, which speaks the root shell's protocol and nothing else. Whatever it says,
no terminal obeys it, it has one line, the other host's lines are whole, and the exit code is right.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabric
import paramiko
import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import plain
from deploys.session.root_shell import RootShell
from tasks import gateway, host
from tasks.hosts import fleet
from tasks.hosts.connection import Host
from tests.unit.deploys.session.ssh_server import Answers, served
from tests.unit.tasks.hosts.descriptors import descriptor_of

KEY = "SHA256:" + "k" * 43
# A title, the clipboard, a cleared screen, markup, a line of another host, text turned round, C1,
# a carriage return, and what is no UTF-8.
NOISE = (
    b"\x1b]0;title\x07\x1b]52;c;eA==\x07\x1b[2J[/] [bold red]x[/nope] \\ [link=http://x]y[/]\n"
    b"error: good: forged\r\xe2\x80\xaeturned\xe2\x81\xa6 \xc2\x9b31m \xff\xfe\xed\xa0\x80 \x7f\n"
)
WORD = NOISE.replace(b"\n", b" ")
LISTS = {
    b"owners list": f"ada {KEY} 1767225600 3\n".encode(),
    b"owners hostkey": KEY.encode(),
    b"versions list": b"root_feed 1767225600 " + b"feed" * 16 + b" c0ffee\n",
    b"test -x": b"yes\n",
    b"lib/pipeline/shrink": b"/persistent trim 1024\n",
    b"/bin/secure": b"this box is a worker\n",
    b"base64": b"",
}
STATE = b"""@os
ID=debian
VERSION_ID=13
@boot_id
6f1c
@kernel
6.12.9-WORD
@uptime
5400.0 3
@clock
1795550400
@defaults
VOLGROUP=WORD
LVSNAP=root_snap
WATCHED=/persistent /WORD
WARN_PERCENT=80
@verdict
verdict=fresh
started=2.5
disk=4.0
finished=6.3
reason=WORD
@rolled_back
1795550000 WORD
@release
ROLE=gateway
MANIFEST=WORD
COMMIT=WORD
@provisiond
state=WORD
reason=WORD
@filesystems
Mounted Used Avail
/ 1 2
/WORD 100000 1
@mounts
30 25 0:26 / / rw - ext4 /dev/x ro
@versions
lammps=WORD
WORD=1
"""
GOOD = STATE.replace(b" /WORD", b"").replace(b"/WORD 100000 1\n", b"").replace(b"WORD", b"good")


def good(command: bytes) -> tuple[int, bytes]:
    if b"@os" in command:
        return 0, GOOD
    return 0, next((text for words, text in LISTS.items() if words in command), b"")


def noisy(code: int) -> Answers:
    return lambda _: (code, NOISE)


def with_state(state: bytes, answers: Answers) -> Answers:
    return lambda command: (0, state) if b"@os" in command else answers(command)


def numbers(word: bytes) -> Answers:
    """Each number is this word."""
    return lambda command: (
        0,
        re.sub(rb"(?<![\w.])\d+(\.\d+)?(?![\w.])", word, good(command)[1]),
    )


def unlocked(answers: Answers) -> Answers:
    """The lock is free, whoever asks."""
    return lambda command: (0, b"") if b"flock" in command else answers(command)


EVIL: dict[str, Answers] = {
    "noise": noisy(0),
    "failing": noisy(1),
    "no exit code": noisy(10**9),
    "shown": with_state(STATE.replace(b"WORD", WORD), good),
    "lists": with_state(GOOD, noisy(0)),
    "abc": numbers(b"abc"),
    "endless": numbers(b"9" * 5000),
    "late": numbers(b"9" * 18),
    "nan": numbers(b"nan"),
}


NAMES, MORE = ("good", "evil"), ("one", "two", "three")


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, paramiko.SSHClient]]:
    """A connection to each host."""
    with contextlib.ExitStack() as stack:
        servers = {"good": good, **EVIL}
        yield {
            name: stack.enter_context(served(answers=unlocked(answers)))[0]
            for name, answers in servers.items()
        }


@pytest.fixture(params=EVIL)
def _both(
    request: pytest.FixtureRequest,
    clients: dict[str, paramiko.SSHClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """The two hosts as all tasks see them."""

    def connect(self: Host) -> None:
        with self._named_errors():
            self._shell = RootShell(clients[request.param if self.name == "evil" else "good"])

    monkeypatch.setattr(Host, "_open", connect)
    monkeypatch.setattr(Host, "close", lambda self: setattr(self, "_shell", None))
    monkeypatch.setattr(Host, "reboot", lambda self, *_, **__: self.state())
    monkeypatch.setattr(fleet, "LOGS", tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    yield
    fleet._enlisted.clear()
    for log in tmp_path.iterdir():
        assert log.read_text() == plain(log.read_text())


TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "status": (host.status, {}),
    "status of many": (host.status, {}),
    "status --wide": (host.status, {"wide": True}),
    "status --json": (host.status, {"json": True}),
    "rollback --list": (host.rollback, {"list": True}),
    "rollback": (host.rollback, {"force": True}),
    "resnap": (host.resnap, {}),
    "shrink": (host.shrink, {}),
    "finalize": (host.finalize, {"force": True}),
    "provision --dry-run": (host.provision, {"dry_run": True}),
    "users": (gateway.users, {}),
    "adduser": (gateway.adduser, {"name": "ada"}),
    "deluser": (gateway.deluser, {"name": "ada"}),
}


@pytest.mark.commands
@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("name", TASKS)
def test_whatever_a_host_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    task, flags = TASKS[name]
    with descriptor_of(b"a long word\n") as password:
        more = {"password_fd": password} if name == "adduser" else {}
        for host_name in (*NAMES, *MORE[: 3 * (name == "status of many")]):
            task(fabric.Connection(host_name), **flags, **more)
        code: int | None = 0
        try:
            fleet.finish(Context())
        except Exit as end:
            code = end.code
    said = capsys.readouterr()
    assert said.out == plain(said.out)
    assert said.err == plain(said.err)
    lines = said.err.splitlines()
    assert all(line.startswith(("error: ", "evil ", "good ", *MORE)) for line in lines)
    assert "traceback" not in said.err
    errors = [line for line in lines if line.startswith("error: ")]
    assert len({line.split(":")[1] for line in errors}) == len(errors)
    assert code == (1 if errors else 0)
    if name == "status --json":
        assert json.loads(said.out)["good"]["kernel"] == "6.12.9-good"
    elif name.startswith("status"):
        assert ("6.12.9-good" in said.out) != (name == "status of many")
    elif name in ("users", "adduser", "deluser"):
        assert f"good: host key {KEY}" in said.out.splitlines()
    elif name == "rollback --list":
        assert "feedfeedfeedfeed" in said.out
    elif name == "resnap":
        assert "good: fresh: good, the reset took 2.3 s" in said.out.splitlines()
    elif name == "shrink":
        assert "1 KiB" in said.out


ONE: dict[str, tuple[Any, dict[str, Any]]] = {
    "queue": (gateway.queue, {"once": True}),
    "results": (gateway.results, {}),
    "results --job": (
        gateway.results,
        {"job": "TE_000000000111_000-and-MO_405512056662_005-0123456789ab"},
    ),
    "submit": (gateway.submit, {"item": "T__TE_000000000111_000"}),
}


@pytest.mark.commands
@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("name", ONE)
def test_whatever_a_gateway_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    task, flags = ONE[name]
    line, code = "", 0
    try:
        task(fabric.Connection("evil"), **flags)
    except Exit as end:
        line, code = str(end), end.code
    assert code == bool(line)
    said = capsys.readouterr()
    assert said.out + said.err == plain(said.out + said.err)
    assert line == plain(line)
    assert "\n" not in line
    assert (line or said.out).startswith(("error: evil", "evil: there are no results"))


def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(answers=lambda words: (0, b"x" * 2**20 if b"@os" in words else b"")) as (client, _):
        monkeypatch.setattr("deploys.session.root_shell._MOST_BYTES", 2**18)
        shell = RootShell(client)
        with pytest.raises(paramiko.SSHException, match="it answers with more than 0 MiB"):
            shell.run("echo @os")
        assert not shell.alive
