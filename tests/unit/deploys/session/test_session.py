"""A pass of deploys on this machine, directly and over SSH."""

from __future__ import annotations

import io
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.exceptions import OperationError
from pyinfra.api.operation import operation

from deploys.errors import BoxError, DeployError
from deploys.facts.onbox import FileStates, LinkTarget
from deploys.operations import packages
from deploys.session import PlannedOperation, Session, Target
from deploys.session.root_shell import RootShell
from tests.unit.deploys.session.ssh_server import served

pytestmark = pytest.mark.commands


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


@operation()
def sent(content: str, path: str) -> Generator[FileUploadCommand, None, None]:
    yield FileUploadCommand(io.BytesIO(content.encode()), path)


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


@operation()
def updated() -> Generator[StringCommand, None, None]:
    yield StringCommand(packages.UPDATE)


def test_an_apt_source_that_is_dead_is_named(tmp_path: Path) -> None:
    """By a real apt. Its last line says only that some index files failed."""
    for name in ("lists/partial", "archives/partial", "parts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status").touch()
    dead = f"file:{tmp_path}/dead"
    (tmp_path / "sources").write_text(f"deb [trusted=yes] {dead} stable main\n")
    (tmp_path / "conf").write_text(
        f'Dir {{ State "{tmp_path}"; State::status "{tmp_path}/status"; Cache "{tmp_path}";\n'
        f'Etc::sourcelist "{tmp_path}/sources"; Etc::sourceparts "{tmp_path}/parts"; }};\n'
        'APT::Sandbox::User "root"; APT::Update::Post-Invoke {};\n'
    )
    target = Target("box", environment={"APT_CONFIG": f"{tmp_path}/conf", "LC_ALL": "C"})
    with Session(target) as session:
        session.prepare([lambda: updated(name="Install git")])
        with pytest.raises(DeployError, match=rf"^box: Install git: E: .*{dead}") as caught:
            session.run()
    assert "\n" not in str(caught.value)


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


@pytest.fixture
def far() -> Iterator[Target]:
    """This machine as a host over SSH."""
    with served() as (client, _):
        yield Target("far", RootShell(client))


def test_a_host_over_ssh_is_changed(far: Target, tmp_path: Path) -> None:
    with Session(far) as session:
        session.prepare([lambda: two_files(folder=tmp_path)])
        assert len(session.run()) == 2
    assert (tmp_path / "second").exists()


def test_a_fault_at_the_end_of_the_line_is_one_line(far: Target) -> None:
    with Session(far) as session:
        session.prepare([lambda: failing(name="Break it")])
        with pytest.raises(DeployError, match=r"^far: Break it: two$"):
            session.run()


def test_a_fact_of_several_lines_is_read(far: Target, tmp_path: Path) -> None:
    paths = [f"{tmp_path}/{number}" for number in range(3)]
    for path in paths:
        Path(path).write_text(path)
    with Session(far) as session:
        states = session.fact(FileStates, paths=paths)
    assert sorted(states) == paths


def test_a_file_is_sent(far: Target, tmp_path: Path) -> None:
    path = tmp_path / "sent"
    with Session(far) as session:
        session.prepare([lambda: sent(name="Send", content="of the test", path=str(path))])
        assert session.run() == ("Send",)
    assert path.read_text() == "of the test"


def test_a_file_that_cannot_be_written_is_one_line(far: Target, tmp_path: Path) -> None:
    with Session(far) as session:
        session.prepare([lambda: sent(name="Send", content="x", path=f"{tmp_path}/no/file")])
        with pytest.raises(DeployError, match=r"^far: Send: .*no/file"):
            session.run()


def test_a_host_that_went_away_is_one_line(far: Target, tmp_path: Path) -> None:
    with Session(far) as session:
        session.prepare([lambda: two_files(folder=tmp_path)])
        assert far.shell is not None
        far.shell._channel.close()
        with pytest.raises(DeployError, match=r"^far: Two files \| First file: "):
            session.run()
