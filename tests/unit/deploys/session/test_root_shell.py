"""Commands in one shell over SSH: each ends where it ends, whatever it prints or reads."""

from __future__ import annotations

import io
import os
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from paramiko import SSHException

from deploys.errors import PreflightError
from deploys.session.root_shell import Answer, RootShell
from tests.unit.deploys.session.ssh_server import not_root, served

pytestmark = pytest.mark.commands

PASSWORD = "s3cret 'pa$$\" word"
# What sudo does with -S: the prompt on standard error, the password from standard input.
SUDO = (
    "while case $1 in -p) prompt=$2; shift 2 ;; -*) shift ;; *) false ;; esac; do :; done\n"
    'while printf %s "$prompt" >&2; do\n'
    "  read -r line || exit 1\n"
    f'  [ "$line" != {shlex.quote(PASSWORD)} ] || exec "$@"\n'
    "  echo Sorry, try again. >&2\n"
    "done"
)


@pytest.fixture(scope="module")
def shell() -> Iterator[RootShell]:
    with served() as (client, _):
        yield RootShell(client)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("echo one; echo two >&2; exit 3", Answer(3, "one\n", "two\n")),
        ("printf 'no newline'", Answer(0, "no newline", "")),
        ("printf 'one\n\n\n'", Answer(0, "one\n\n\n", "")),
        ("true", Answer(0, "", "")),
        ("cat; echo read nothing", Answer(0, "read nothing\n", "")),
        ("exit 0 # 'quotes\" $(of) `all` kinds\nfalse", Answer(0, "", "")),
        ("cd /; x=1; exec echo gone", Answer(0, "gone\n", "")),
        ("kill -9 $$", Answer(137, "", "Killed\n")),
        ("printf '\\377'", Answer(0, "�", "")),
        ("if", None),
    ],
)
def test_a_command_is_answered(shell: RootShell, command: str, answer: Answer | None) -> None:
    told = shell.run(command)
    if answer is None:
        assert told.code == 2
        assert "yntax error" in told.stderr
    else:
        assert told == answer
    assert shell.run('echo "${x:-unset}"; pwd') == shell.run("echo unset; pwd")


def test_much_on_both_streams_does_not_block(shell: RootShell) -> None:
    megabytes = "head -c 4000000 /dev/zero | tr '\\0' x"
    told = shell.run(f"{megabytes} >&2; {megabytes}")
    assert (len(told.stdout), len(told.stderr)) == (4000000, 4000000)


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_file_arrives_whole(shell: RootShell, tmp_path: Path, size: int) -> None:
    content = (b"echo oops >&2\n\0\xff" * (size // 16 + 1))[:size]
    path = tmp_path / "it's here"
    assert shell.write(io.BytesIO(content), str(path)) == Answer(0, "", "")
    assert path.read_bytes() == content
    assert shell.run("echo on").stdout == "on\n"


@pytest.mark.parametrize(
    ("command", "stdin", "answer"),
    [
        ("cat; exit 3", b"a word\nand more", Answer(3, "a word\nand more", "")),
        ("read -r word; echo $word", b"one\necho two\n", Answer(0, "one\n", "")),
        ("exec <&-; echo reads nothing", b"echo oops >&2\n" * 300_000, None),
        ("cat", b"", Answer(0, "", "")),
    ],
)
def test_a_command_reads_what_it_is_given_and_no_more(
    shell: RootShell, command: str, stdin: bytes, answer: Answer | None
) -> None:
    assert shell.run(command, stdin=stdin) == (answer or Answer(0, "reads nothing\n", ""))
    assert shell.run("echo on") == Answer(0, "on\n", "")


@pytest.mark.parametrize("size", [0, 1, 40_000_000])
def test_what_a_command_prints_is_copied_as_it_is(
    shell: RootShell, tmp_path: Path, size: int
) -> None:
    """More than an answer may have, and bytes that are no text."""
    content = (f"\n{shell._mark}\n".encode() + b"\0\xff\x1b[2J\n" * 20) * (size // 100 + 1)
    there, here = tmp_path / "there", tmp_path / "here"
    there.write_bytes(content[:size])
    with here.open("wb") as copy:
        told = shell.run(f"cat {there}; echo of it >&2; exit 3", stdout=copy)
    assert told == Answer(3, "", "of it\n")
    assert here.read_bytes() == content[:size]
    there.unlink()
    with here.open("rb") as source:
        assert shell.run(f"cat >{there}", stdin=source) == Answer(0, "", "")
    assert there.read_bytes() == content[:size]
    assert shell.run("echo on").stdout == "on\n"


def test_a_copy_that_cannot_be_written_ends_the_shell() -> None:
    """The rest of it would be taken for an answer."""
    with served() as (client, _), Path("/dev/full").open("wb", buffering=0) as full:
        other = RootShell(client)
        with pytest.raises(OSError, match="No space left"):
            other.run("yes", stdout=full)
        assert not other.alive


def test_what_a_command_reads_is_in_no_list_of_processes(shell: RootShell) -> None:
    seen = shell.run("cat /proc/[0-9]*/cmdline; read -r word; echo", stdin=b"s3cret\n").stdout
    assert "s3cret" not in seen


def test_what_cannot_be_written_is_no_command(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with served() as (client, _):
        other = RootShell(client)
        lines = f"touch {ran}\n".encode() * 100_000
        told = other.write(io.BytesIO(lines), str(tmp_path / "no" / "file"))
        assert told.code != 0
        assert "no/file" in told.stderr
        with pytest.raises(SSHException):
            other.run("true")
        assert not other.alive
    assert not ran.exists()


def test_silence_beyond_the_timeout_ends_the_shell() -> None:
    with served() as (client, _):
        shell = RootShell(client)
        assert shell.run("echo quick", timeout=30).stdout == "quick\n"
        with pytest.raises(TimeoutError, match=r"no output for 0\.1 s"):
            shell.run("sleep 60", timeout=0.1)
        assert not shell.alive


def test_a_connection_that_breaks_is_noticed() -> None:
    with served() as (client, _):
        shell = RootShell(client)
        threading.Timer(0.2, client.close).start()
        with pytest.raises(SSHException, match="the connection broke"):
            shell.run("sleep 60")
        with pytest.raises(SSHException, match="the connection broke"):
            RootShell(client)


def test_a_connection_that_breaks_while_sudo_thinks_is_no_refusal(tmp_path: Path) -> None:
    with served(not_root(tmp_path / "bin", "exec sleep 60")) as (client, _):
        threading.Timer(0.3, client.close).start()
        with pytest.raises(SSHException, match="the connection broke"):
            RootShell(client)


def test_root_needs_no_sudo() -> None:
    with served() as (client, commands):
        RootShell(client).run("echo one command more")
    assert len(commands) == 1


@pytest.mark.parametrize("sudo", [None, SUDO])
def test_a_login_shell_reads_nothing_that_another_reads_otherwise(
    tmp_path: Path, sudo: str | None
) -> None:
    """csh and fish know no if-fi, and see more in ``!``, ``$x:y``, quotes and ends of lines."""
    env = {**os.environ, "LANG": "de_DE.UTF-8", "LANGUAGE": "de", "LC_NUMERIC": "de_DE.UTF-8"}
    with served({**env, **(not_root(tmp_path, sudo) if sudo else {})}) as (client, commands):
        shell = RootShell(client, PASSWORD)
        assert shell.run('echo "$LC_ALL,$LANGUAGE"').stdout == "C.UTF-8,\n"  # no decimal comma
    assert [command for command in commands if not re.fullmatch("[a-z ]+", command)] == []
    assert commands


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_sudo_that_does_not_ask_gets_no_password(tmp_path: Path, password: str | None) -> None:
    env = not_root(
        tmp_path / "bin",
        'while case $1 in -p) shift 2 ;; -*) shift ;; *) false ;; esac; do :; done; exec "$@"',
    )
    with served(env) as (client, _):
        assert RootShell(client, password).run("cat; echo end").stdout == "end\n"


def test_sudo_that_asks_is_given_its_password_and_nobody_else(tmp_path: Path) -> None:
    with served(not_root(tmp_path / "bin", SUDO)) as (client, commands):
        shell = RootShell(client, PASSWORD)
        assert shell.run("echo on").stdout == "on\n"
        seen = shell.run("cat /proc/$PPID/cmdline /proc/$PPID/environ; env").stdout
    assert "s3cret" not in seen
    assert not [command for command in commands if "s3cret" in command]


@pytest.mark.parametrize(
    ("password", "sudo", "line"),
    [
        (None, SUDO, "sudo asks for a password: give it with fab --prompt-for-sudo-password"),
        ("wrong", SUDO, "sudo refuses the password given"),
        (
            None,
            "echo user is not in the sudoers file. >&2; exit 1",
            "may not become root: user is not in the sudoers file.",
        ),
        (None, "exit 1", "may not become root: exit code 1"),
    ],
)
def test_who_may_not_become_root_is_told_why(
    tmp_path: Path, password: str | None, sudo: str, line: str
) -> None:
    with served(not_root(tmp_path / "bin", sudo)) as (client, _):
        with pytest.raises(PreflightError) as caught:
            RootShell(client, password)
        assert line in str(caught.value)


def test_host_that_goes_down_has_refused_nobody(tmp_path: Path) -> None:
    with (
        served(not_root(tmp_path / "bin", "exit 254")) as (client, _),
        pytest.raises(SSHException, match="sshd opened no session"),
    ):
        RootShell(client)
