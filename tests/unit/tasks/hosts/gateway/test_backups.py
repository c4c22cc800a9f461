"""A backup is whole or is not there, and a changed one is not sent to any gateway."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import IO, cast

import pytest

from deploys.errors import BoxError, UnreachableError
from deploys.facts.state import HostState, Verdict
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.gateway.backups import back_up, require_whole, restore

DUMP, FILES = b"PGDMP\x01\0\xff", b"\0" * 100_000


class Gateway:
    """What a gateway prints and takes; ``breaks`` is after how many commands it is gone."""

    name = "gw:2222"

    def __init__(self, breaks: int = 9) -> None:
        self.breaks = breaks
        self.taken: list[tuple[str, bytes]] = []

    def state(self) -> HostState:
        return HostState(release={"ROLE": "gateway"}, verdict=Verdict("fresh"))

    def run(
        self, command: str, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> str:
        self.breaks -= 1
        words = command.split()[-1]
        if stdout is not None:
            stdout.write({"database": DUMP, "files": FILES}[words])
        if self.breaks < 0:
            raise UnreachableError(f"{self.name}: the connection broke")
        self.taken.append((words, stdin.read() if stdin else b""))
        return ""


@pytest.fixture
def progress() -> HostProgress:
    class Silent:
        def step(self, _: str) -> None: ...

    return cast(HostProgress, Silent())


@pytest.fixture
def backup(tmp_path: Path, progress: HostProgress) -> Path:
    made = back_up(cast(Host, Gateway()), tmp_path / "kept", progress)
    assert made.size == len(DUMP) + len(FILES)
    return made.folder


def test_it_has_all_and_is_its_owners_alone(backup: Path) -> None:
    assert backup.name.startswith("gw-2222-20")
    assert (backup / "database.dump").read_bytes() == DUMP
    assert (backup / "files.tar").read_bytes() == FILES
    assert backup.stat().st_mode & 0o777 == 0o700
    assert (backup / "files.tar").stat().st_mode & 0o777 == 0o600
    require_whole(backup)


@pytest.mark.parametrize("breaks", [0, 1])
def test_one_that_breaks_off_leaves_nothing(
    breaks: int, tmp_path: Path, progress: HostProgress
) -> None:
    with pytest.raises(UnreachableError, match="the connection broke"):
        back_up(cast(Host, Gateway(breaks)), tmp_path, progress)
    assert list(tmp_path.iterdir()) == []


def test_a_desk_without_room_is_said(tmp_path: Path, progress: HostProgress) -> None:
    """It is no error of the connection."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(BoxError, match=r"files.tar: File too large$"):
            back_up(cast(Host, Gateway()), tmp_path, progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_none_is_said(tmp_path: Path, progress: HostProgress) -> None:
    (tmp_path / "file").write_text("")
    gateway = Gateway()
    with pytest.raises(BoxError, match=r"file/to: Not a directory$"):
        back_up(cast(Host, gateway), tmp_path / "file/to", progress)
    assert gateway.taken == []


def test_a_restore_sends_the_database_first(backup: Path, progress: HostProgress) -> None:
    """No account is let in before the queue is there."""
    gateway = Gateway()
    restore(cast(Host, gateway), backup, progress)
    sent = [("require-empty", b""), ("take-database", DUMP), ("take-files", FILES)]
    assert gateway.taken == sent


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("files.tar", b"\0" * 99_999, r"files.tar is not what was backed up"),
        ("database.dump", b"", r"database.dump is not what was backed up"),
        ("SHA256SUMS", b"\xff", r"database.dump is not what was backed up"),
        ("files.tar", None, r"files.tar: No such file"),
        ("SHA256SUMS", None, r"is no backup of a gateway: it has no SHA256SUMS"),
    ],
)
def test_what_is_no_backup_is_refused(
    backup: Path, name: str, content: bytes | None, line: str
) -> None:
    (backup / name).unlink()
    if content is not None:
        (backup / name).write_bytes(content)
    with pytest.raises(BoxError, match=line):
        require_whole(backup)
