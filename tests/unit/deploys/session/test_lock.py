"""Two operators at one host: one works, the other is told who does; nothing is left behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from paramiko import SSHException

from deploys.errors import BoxError, DeployError, PreflightError
from deploys.operations import onbox
from deploys.session import Session, Target, lock
from deploys.session.lock import Lock
from deploys.session.root_shell import RootShell
from deploys.settings import paths
from tasks.desk.awaiting import awaited
from tests.unit.deploys.session.ssh_server import served

pytestmark = pytest.mark.commands

CHANGES = r"^\S+@\S+ changes it: provision, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lock, note and uploads lie in this folder, not in the system's."""
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "run lock"))
    monkeypatch.setattr(lock, "NOTE", str(tmp_path / "persistent" / "operator"))
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    monkeypatch.setattr(lock, "_KEEP_PLACE", lock._KEEP_PLACE.replace("mountpoint", "true"))
    monkeypatch.setattr(paths, "UPLOADS", f"{tmp_path}/upload.")
    return tmp_path


@contextlib.contextmanager
def connected(held: Lock | None = None) -> Iterator[RootShell]:
    """A root shell on this machine, over a connection of its own."""
    with served() as (client, _):
        shell = RootShell(client)
        if held is not None:
            held.take(client, shell)
        yield shell


def begin(shell: RootShell, command: str, folder: Path) -> None:
    """Begin a command, and do not wait for its end."""
    shell._send(f"touch {folder}/begun; {command}\n".encode())
    awaited((folder / "begun").exists, 20, 0.02, lambda: "it does not begin")


def is_free(other: Lock) -> bool:
    with contextlib.suppress(PreflightError), connected(other):
        return True
    return False


def refused(task: str = "rollback") -> str:
    with Lock(task) as other, pytest.raises(PreflightError) as caught, connected(other):
        pass
    return str(caught.value)


def test_the_second_is_told_who_with_what_and_since_when() -> None:
    with Lock("provision") as held, connected(held) as shell:
        assert re.match(CHANGES, refused())
        held.release(shell)
    with Lock("rollback") as other, connected(other):
        pass


def test_the_lock_ends_with_the_connection_and_not_before_its_last_command(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    with Lock("provision") as held, served() as (client, _):
        shell = RootShell(client)
        held.take(client, shell)
        daemon = shell.run("sleep 60 >/dev/null 2>&1 & echo $!").stdout.strip()
        begin(shell, f"read -r _ <{go}", tmp_path)
        client.close()
        assert "changes it: provision" in refused()
        go.write_text("\n")
        with Lock("rollback") as other:
            awaited(lambda: is_free(other), 20, 0.05, lambda: "the lock is never free")
        os.kill(int(daemon), signal.SIGTERM)  # it holds nothing


def test_after_ctrl_c_the_next_pass_waits_for_the_last_command(tmp_path: Path) -> None:
    """The pass is known to be over, as it was of this machine: nobody has to be told its name."""
    go = tmp_path / "go"
    os.mkfifo(go)
    with Lock("provision") as held, served() as (client, _):
        shell = RootShell(client)
        held.take(client, shell)
        begin(shell, f"read -r _ <{go}; touch {tmp_path}/ended", tmp_path)
        client.close()
    writer = threading.Timer(0.5, go.write_text, ["\n"])
    writer.start()
    with Lock("provision") as again, connected(again):
        assert (tmp_path / "ended").exists()
    writer.join()


def test_a_pass_has_its_lock_again_over_the_next_connection() -> None:
    with Lock("provision") as held:
        with connected(held):
            pass
        with connected(held):
            assert "changes it: provision" in refused()


def test_what_others_wrote_into_the_lock_is_no_fault(places: Path) -> None:
    with Lock("provision") as held, connected(held):
        for text in ("", "\x1b]0;x\x07\n[/]\n", '{"who": 1}', '{"since": 1e400}'):
            (places / "run lock").write_text(text)
            assert refused() == ("somebody else changes it at this moment: try again later")


@pytest.mark.parametrize(
    ("boot", "ago", "kept"),
    [("this", 10, True), ("this", 301, False), ("another", 10**9, None), ("x\\", "$(id)", None)],
)
def test_a_reboot_keeps_the_place_for_a_while(
    places: Path, boot: str, ago: int | str, kept: bool | None
) -> None:
    """``kept`` is None: until some minutes after the boot, which may be long ago here."""
    uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
    with Lock("provision") as held:
        with connected(held) as shell:
            held.keep_place(shell)
        note = places / "persistent" / "operator"
        this, _, said = note.read_text().split(" ", 2)
        assert note.stat().st_mode & 0o777 == 0o600
        began = uptime - ago if isinstance(ago, int) else ago
        note.write_text(f"{this if boot == 'this' else boot} {began} {said}")
        if kept if kept is not None else uptime < 300:
            assert "changes it: provision" in refused()
            assert "and has it boot" in refused()
        else:
            with Lock("rollback") as other, connected(other):
                assert not note.exists()


def test_the_place_of_a_pass_that_was_ended_is_free_at_once(places: Path) -> None:
    note = places / "persistent" / "operator"
    with Lock("provision") as held, connected(held) as shell:
        held.keep_place(shell)
    with Lock("provision") as again, connected(again) as shell:
        assert not note.exists()
        again.keep_place(shell)
        assert note.exists()
        again.release(shell)
        assert not note.exists()


@pytest.mark.parametrize("form", ["fifo", "link", "folder"])
def test_what_is_no_plain_note_is_none(places: Path, form: str) -> None:
    """A host's former root may have left it: no task waits for it, or writes elsewhere by it."""
    note, other = places / "persistent" / "operator", places / "other"
    note.parent.mkdir()
    other.write_text("mine\n")
    if form == "fifo":
        os.mkfifo(note)
    elif form == "link":
        note.symlink_to(other)
    else:
        note.mkdir()
    with Lock("provision") as held, connected(held) as shell:
        held.keep_place(shell)
        assert note.is_file()
        assert not note.is_symlink()
    assert other.read_text() == "mine\n"


def test_a_process_that_is_gone_has_ended() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with Lock("provision") as held:
        mine = lock.Holder.model_validate_json(held._own_note)
        assert not mine.is_over
        assert mine.model_copy(update={"process": gone.pid}).is_over
        assert not mine.model_copy(update={"process": os.getppid()}).is_over
        assert not mine.model_copy(update={"machine": "other", "process": gone.pid}).is_over
    assert mine.is_over


def test_a_process_of_another_user_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says only that we may not end it; /proc, which tells more, is Linux's alone."""
    with Lock("provision") as held:
        mine = lock.Holder.model_validate_json(held._own_note)
    monkeypatch.setattr(os, "kill", Mock(side_effect=PermissionError))
    assert not mine.model_copy(update={"process": 1}).is_over


@pytest.mark.parametrize("vanished", [True, False])
def test_a_machine_that_says_nothing_more_loses_its_connection(vanished: bool) -> None:
    """The parent of the watch is this connection's sshd; here it is a shell."""
    watch = lock._WATCH.replace(f"timeout {lock._SILENCE}", "timeout 0.5")
    parent = ["sh", "-c", 'sh -c "$0"; exit 5', watch]
    sshd = subprocess.Popen(parent, stdin=subprocess.PIPE)
    assert sshd.stdin
    sshd.stdin.write(b".")
    sshd.stdin.flush()
    if not vanished:
        sshd.stdin.close()
    assert sshd.wait(10) == (-15 if vanished else 5)


def archive(folder: Path, word: str) -> Path:
    file = folder / f"{word}.tar"
    with tarfile.open(file, "w") as tar:
        for number in range(60):
            member = tarfile.TarInfo(f"file-{number}")
            content = word.encode() * 2000
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def put(far: Target, file: Path, folder: Path) -> None:
    with Session(far) as session:
        session.prepare(
            [
                lambda: onbox.unpacked(
                    name="u", archive=file, digest=file.stem * 32, path=str(folder / "parts")
                )
            ]
        )
        session.run()


@pytest.mark.parametrize("_round", range(8))
def test_of_two_provisions_at_once_one_is_refused_and_the_box_is_right(
    tmp_path: Path, _round: int
) -> None:
    """Without the lock, with one name for all uploads and no digest, most rounds went wrong."""
    both, told = threading.Barrier(2, timeout=20), []
    folder = tmp_path / "box"
    folder.mkdir()

    def provision(file: Path) -> None:
        both.wait()
        try:
            with Lock("provision") as held, connected(held) as shell:
                put(Target("far", shell), file, folder)
                told.append("done")
                both.wait()
        except BoxError as error:
            told.append(str(error))
            both.wait()

    files = [archive(tmp_path, word) for word in ("a", "b")]
    threads = [threading.Thread(target=provision, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done, line = sorted(told, key=lambda line: line != "done")
    assert done == "done"
    assert re.match(CHANGES, line)
    word = (folder / "parts").readlink().name.removeprefix("parts-")[0]
    assert [file.read_text() for file in (folder / "parts").iterdir()] == [word * 2000] * 60
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("kept", [0.5, 0])
def test_an_upload_that_is_not_whole_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    write = RootShell.write

    def short(shell: RootShell, source: io.BufferedReader, path: str) -> object:
        content = source.read()
        return write(shell, io.BytesIO(content[: int(len(content) * kept)]), path)

    monkeypatch.setattr(RootShell, "write", short)
    folder = tmp_path / "box"
    folder.mkdir()
    with connected() as shell, pytest.raises(DeployError, match="did not arrive whole"):
        put(Target("far", shell), archive(tmp_path, "a"), folder)
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.glob("upload.*"))


def test_an_upload_whose_connection_breaks_leaves_nothing(tmp_path: Path) -> None:
    with served() as (client, _):
        shell = RootShell(client)

        class Breaking(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 10**6:
                    client.close()
                return super().read(size)

        with pytest.raises(SSHException):
            shell.write(Breaking(b"x" * 4 * 10**6), f"{tmp_path}/sent")
    with connected() as other:
        gone = f"for n in $(seq 50); do [ -e {tmp_path}/sent ] || exit 0; sleep 0.1; done; exit 1"
        assert other.run(gone).code == 0
