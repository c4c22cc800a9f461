"""What an owner of boxes can do with his password: fetch his key by sftp, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.gateway.gateway import PASSWORDS, Gateway, everything

ADA = PASSWORDS["ada"]
HOST = "ada@127.0.0.1"


def test_the_key_is_fetched(gateway: Gateway, tmp_path: Path) -> None:
    told = gateway.by_password(ADA, "sftp", f"{HOST}:id_ed25519", tmp_path)
    assert told.returncode == 0, told.stderr
    key = tmp_path / "id_ed25519"
    assert key.read_bytes() == gateway.key("ada").read_bytes()
    # as users of scp do it, which speaks the same protocol now
    told = gateway.by_password(ADA, "scp", f"{HOST}:/id_ed25519.pub", tmp_path)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize(
    "words",
    [
        (HOST, "id"),
        (HOST,),
        ("-tt", HOST),
        ("-T", HOST, "sh"),
        (HOST, "internal-sftp; id"),
        (HOST, "rsync --server --sender -e.LsfxCIvu . /"),
    ],
)
def test_there_is_no_shell(gateway: Gateway, words: tuple[str, ...]) -> None:
    told = gateway.by_password(ADA, "ssh", *words)
    assert gateway.asked == 1  # the password was taken
    assert told.returncode != 0
    assert "uid=" not in told.stdout


def sftp(gateway: Gateway, batch: str) -> tuple[int, str]:
    """What an sftp session printed, command by command, and its exit code."""
    file = gateway.home / "batch"
    file.write_text(batch)
    # BatchMode, which -b brings, would not ask for a password
    told = gateway.by_password(ADA, "sftp", "-oBatchMode=no", "-b", str(file), HOST)
    return told.returncode, told.stdout + told.stderr


def test_he_sees_nothing_but_his_two_files(gateway: Gateway) -> None:
    code, text = sftp(gateway, "ls -a1 /\nls -a1 ../../..\npwd\n")
    assert code == 0
    assert "Remote working directory: /" in text
    names = [Path(line).name for line in text.splitlines() if "id_" in line]
    assert names == ["id_ed25519", "id_ed25519.pub"] * 2
    assert "bob" not in text


def test_he_changes_nothing(gateway: Gateway) -> None:
    mine = gateway.home / "askpass"
    commands = (
        f"put {mine} new",
        f"put {mine} id_ed25519",
        "rm id_ed25519",
        "rename id_ed25519 other",
        "chmod 644 id_ed25519",
        "chown 0 id_ed25519",
        "mkdir folder",
        "ln -s /etc link",
    )
    before = everything(gateway)
    _, text = sftp(gateway, "".join(f"-{command}\n" for command in commands))
    assert text.count("Permission denied") == len(commands), text
    assert everything(gateway) == before


@pytest.mark.parametrize("program", [("scp",), ("scp", "-O"), ("sftp",)], ids=" ".join)
def test_he_reads_nothing_else(gateway: Gateway, program: tuple[str, ...], tmp_path: Path) -> None:
    paths = (
        "/etc/passwd",
        "../../../../../etc/passwd",
        "../password",
        "../../bob/files/id_ed25519",
        "/persistent/gateway/owners/bob/files/id_ed25519",
        "/proc/self/environ",
        "/srv/pipeline/results/bob/job/results.edn",
    )
    if program == ("sftp",):
        _, text = sftp(gateway, "".join(f"-get {path} {tmp_path}\n" for path in paths))
        assert text.count("not found") == len(paths), text
    else:
        for path in paths[1:4]:
            told = gateway.by_password(ADA, *program, f"{HOST}:{path}", tmp_path)
            assert (gateway.asked, told.returncode) in ((1, 1), (1, 255))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("-W", "127.0.0.1:22", HOST),
        ("-oExitOnForwardFailure=yes", "-R", "9998:127.0.0.1:22", HOST),
        ("-oExitOnForwardFailure=yes", "-R", "/tmp/socket:127.0.0.1:22", HOST),
        ("-oExitOnForwardFailure=yes", "-w", "0:0", HOST),
    ],
    ids=lambda words: words[-2],
)
def test_he_forwards_nothing(gateway: Gateway, words: tuple[str, ...]) -> None:
    told = gateway.by_password(ADA, "ssh", "-N" if "-W" not in words else "-T", *words)
    assert gateway.asked == 1
    assert told.returncode == 255
    assert any(word in told.stderr for word in ("prohibited", "failed", "Tunnel")), told.stderr


def test_his_key_does_not_let_him_in_as_himself(gateway: Gateway) -> None:
    told = gateway.by_key("ada", HOST, "id")
    assert told.returncode == 255
    assert "Permission denied (password)" in told.stderr


@pytest.mark.parametrize(("user", "source"), [("nobody-of-that-name", 2), ("pipeline", 3)])
def test_no_other_is_let_in(gateway: Gateway, user: str, source: int) -> None:
    one, host = "-oNumberOfPasswordPrompts=1", f"{user}@127.0.0.1"
    told = gateway.by_password(ADA, "ssh", one, host, "id", source=f"127.0.0.{source}")
    assert told.returncode == 255
    assert "Permission denied" in told.stderr


def test_three_tries_are_all(gateway: Gateway) -> None:
    wrong = PASSWORDS["bob"]
    many = "-oNumberOfPasswordPrompts=20"
    told = gateway.by_password(wrong, "ssh", many, HOST, source="127.0.0.4")
    assert told.returncode == 255
    assert gateway.asked == 3
    assert wrong not in gateway.log()
