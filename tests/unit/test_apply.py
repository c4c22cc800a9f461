"""A pass of deploys on this machine, and over a stand-in for an SSH client."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import pytest
from paramiko import SSHClient
from pyinfra.api.command import StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.exceptions import OperationError
from pyinfra.api.operation import operation

from deploys.apply import PlannedOperation, Session, Target
from deploys.errors import BoxError, DeployError
from deploys.facts.onbox import LinkTarget

pytestmark = pytest.mark.commands

PASSWORD = "s3cret 'pa$$\" word"


@operation()
def touched(path: str) -> Generator[StringCommand, None, None]:
    if not Path(path).exists():
        yield StringCommand("touch", shlex.quote(path))


@operation()
def failing() -> Generator[StringCommand, None, None]:
    yield StringCommand("sh", "-c", shlex.quote("echo out; echo one >&2; echo two >&2; exit 3"))


@operation()
def refusing() -> Generator[StringCommand, None, None]:
    raise OperationError("/dev/vdb carries ext4")
    yield StringCommand("true")


@deploy("Two files")
def two_files(folder: Path) -> None:
    touched(name="First file", path=f"{folder}/first")
    touched(name="Second file", path=f"{folder}/second")


class Watcher:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def operation(self, name: str, number: int, total: int) -> None:
        self.seen.append((name, number, total))


def test_what_would_change_is_said_before_and_what_did_after(tmp_path: Path) -> None:
    (tmp_path / "first").touch()
    watcher = Watcher()
    with Session(Target("box"), watcher) as session:
        planned = session.prepare([lambda: two_files(folder=tmp_path)])
        assert [operation.changes for operation in planned] == [False, True]
        assert all(isinstance(operation, PlannedOperation) for operation in planned)
        assert not (tmp_path / "second").exists()
        assert session.run() == ("Two files | Second file",)
    assert (tmp_path / "second").exists()
    assert watcher.seen == [("Two files | First file", 1, 2), ("Two files | Second file", 2, 2)]


def test_the_second_time_nothing_changes(tmp_path: Path) -> None:
    for expected in (2, 0):
        with Session(Target("box")) as session:
            session.prepare([lambda: two_files(folder=tmp_path)])
            assert len(session.run()) == expected


def test_a_failing_operation_is_one_line_and_the_rest_is_not_run(tmp_path: Path) -> None:
    def deploys() -> None:
        failing(name="Break it")
        touched(name="File", path=f"{tmp_path}/file")

    with Session(Target("box")) as session:
        session.prepare([deploys])
        with pytest.raises(DeployError) as caught:
            session.run()
    assert str(caught.value) == "box: Break it: two"
    assert not (tmp_path / "file").exists()


def test_an_operation_that_refuses_is_one_line_and_nothing_is_run(tmp_path: Path) -> None:
    def deploys() -> None:
        touched(name="File", path=f"{tmp_path}/file")
        refusing(name="Partition /dev/vdb")

    with Session(Target("box")) as session, pytest.raises(DeployError) as caught:
        session.prepare([deploys])
    assert str(caught.value) == "box: Partition /dev/vdb: /dev/vdb carries ext4"
    assert not (tmp_path / "file").exists()


def test_nothing_of_a_failure_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with Session(Target("box")) as session:
        session.prepare([lambda: failing(name="Break it")])
        with pytest.raises(BoxError):
            session.run()
    assert "two" not in capfd.readouterr().err


def test_a_fact_is_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with Session(Target("box")) as session:
        assert session.fact(LinkTarget, path=f"{tmp_path}/link") == "/etc/hostname"


class _Out:
    """What paramiko gives for standard output: lines, and the channel with the exit code."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self._text = done.stdout
        self.channel = SimpleNamespace(recv_exit_status=lambda: done.returncode)

    def __iter__(self) -> Iterator[str]:
        return iter(self._text.splitlines(keepends=True))

    def read(self) -> bytes:
        return self._text.encode()


class Client:
    """An SSH client whose host is this machine; its sudo wants the password from askpass."""

    def __init__(self, folder: Path) -> None:
        self.commands: list[str] = []
        self.modes: dict[str, int] = {}
        self.written: dict[str, str] = {}
        sudo = folder / "sudo"
        sudo.write_text(
            "#!/bin/sh\n"
            f'[ "$("$SUDO_ASKPASS")" = {shlex.quote(PASSWORD)} ] || {{ echo wrong >&2; exit 1; }}\n'
            'while case $1 in -*) true ;; *) false ;; esac; do shift; done\nexec "$@"\n'
        )
        sudo.chmod(0o755)
        self._env = {"PATH": f"{folder}:{os.environ['PATH']}"}

    def exec_command(self, command: str, **_: object) -> tuple[Any, Any, Any]:
        self.commands.append(command)
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=False, env=self._env
        )
        stdin = SimpleNamespace(close=lambda: None)
        return stdin, _Out(done), iter(done.stderr.splitlines(keepends=True))

    @contextmanager
    def open_sftp(self) -> Iterator[Client]:
        yield self

    def chmod(self, path: str, mode: int) -> None:
        Path(path).chmod(mode)

    def open(self, path: str, mode: str) -> IO[str]:
        self.modes[path] = Path(path).stat().st_mode & 0o777
        return Path(path).open(mode)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Client(folder)


def _target(client: Client, *, password: str | None = PASSWORD) -> Target:
    return Target("far", cast(SSHClient, client), sudo=password is not None, sudo_password=password)


def test_sudos_password_is_in_no_command(client: Client, tmp_path: Path) -> None:
    with Session(_target(client)) as session:
        session.prepare([lambda: two_files(folder=tmp_path)])
        [path] = client.modes
        content = Path(path).read_text()
        assert client.modes[path] == 0o700  # before the password was written
        assert re.fullmatch(r"/dev/shm/askpass-\w{12}", path)
        assert PASSWORD in content
        assert len(session.run()) == 2
    assert not Path(path).exists()
    assert len(client.commands) >= 3
    assert not [command for command in client.commands if "s3cret" in command]
    assert [command for command in client.commands if f"SUDO_ASKPASS={path}" in command]


def test_the_password_is_in_no_representation(client: Client) -> None:
    assert "s3cret" not in repr(_target(client))


def test_a_fault_at_the_end_of_the_line_removes_the_password_too(client: Client) -> None:
    with Session(_target(client)) as session:
        session.prepare([lambda: failing(name="Break it")])
        with pytest.raises(DeployError, match=r"^far: Break it: two$"):
            session.run()
    [path] = client.modes
    assert not Path(path).exists()


def test_without_sudo_there_is_no_script(client: Client, tmp_path: Path) -> None:
    with Session(_target(client, password=None)) as session:
        session.prepare([lambda: two_files(folder=tmp_path)])
        assert len(session.run()) == 2
    assert client.modes == {}
    assert not [command for command in client.commands if "sudo -" in command]


def test_no_room_for_the_password_is_one_line(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = subprocess.CompletedProcess([], 1, "", "")
    monkeypatch.setattr(client, "exec_command", lambda *_, **__: (None, _Out(nothing), iter(())))
    with (
        pytest.raises(DeployError, match=r"^far: no place for sudo's password in /dev/shm$"),
        Session(_target(client)),
    ):
        pass
