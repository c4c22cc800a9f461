"""Base images: where their parts come from, and what is asked of the tools."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.debian import bootstrap, chroot
from tasks.desk import loop, shell, ssh_keys
from tasks.disks import partitions
from tasks.guests import bare, bare_tree

GIB = 2**30


class FakeShell:
    """Stands for shell.run: keeps what was asked, answers by the command's first words."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str | Path], **_: object) -> shell.Completed:
        words = tuple(map(str, argv))
        self.asked.append(words)
        line = " ".join(words)
        said = next((text for start, text in self.answers.items() if line.startswith(start)), "")
        return shell.Completed(words, 0, said, "")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeShell:
    shell_run = FakeShell({})
    monkeypatch.setattr(shell, "run", shell_run)
    return shell_run


MIRROR_CASES = {
    "debian 12 with everything": (
        "Debian\thttp://m.test/debian\tbookworm\tmain\n"
        "Debian\thttp://m.test/debian\tbookworm\tcontrib\n"
        "Debian\thttp://m.test/debian\tbookworm-updates\tmain\n"
        "Debian Backports\thttp://m.test/debian\tbookworm-backports\tmain\n"
        "Debian-Security\thttp://m.test/security\tbookworm-security\tmain\n",
        (
            "deb http://m.test/debian trixie main",
            "deb http://m.test/debian trixie-updates main",
            "deb http://m.test/security trixie-security main",
        ),
    ),
    "the main archive only": (
        "Debian\thttps://m.test/debian\tsid\tmain\n",
        ("deb https://m.test/debian trixie main",),
    ),
    "security alone is of no use": (
        "Debian-Security\thttp://m.test/security\tbookworm-security\tmain\n",
        (),
    ),
    "no debian mirror": ("", ()),
}


@pytest.mark.parametrize("case", MIRROR_CASES)
def test_the_mirror_is_this_machines_own(case: str, fake: FakeShell) -> None:
    table, expected = MIRROR_CASES[case]
    fake.answers["apt-get indextargets"] = table
    assert bootstrap.sources() == expected


def test_only_date_checks_that_are_off_are_copied(fake: FakeShell) -> None:
    fake.answers["apt-config dump"] = (
        'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "true";\n'
    )
    assert bootstrap.relaxations() == ('Acquire::Check-Valid-Until "false";',)


def test_not_root_is_one_line_and_nothing_is_made(
    fake: FakeShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(ssh_keys, "make_key", lambda _: "ssh-ed25519 AAAA us")
    with pytest.raises(BoxError, match=r"needs root .*sudo$"):
        bare.build(bare.Plain(GIB), tmp_path)
    assert not list((tmp_path / "images").glob("*.raw*"))
    assert not any(words[0] in ("mmdebstrap", "losetup", "mount") for words in fake.asked)


def test_a_cached_image_is_not_made_again(
    fake: FakeShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bare.Plain] = []

    def write(recipe: bare.Plain, disk: Path, kernel: Path, *_: object) -> str:
        made.append(recipe)
        disk.write_bytes(b"")
        kernel.write_bytes(b"")
        return "ssh-ed25519 BBBB bare"

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(ssh_keys, "make_key", lambda _: "ssh-ed25519 AAAA us")
    monkeypatch.setattr(bare, "_tree", lambda tar, *_: tar)
    monkeypatch.setattr(bare.Plain, "write", write)
    small, large = bare.Plain(GIB), bare.Plain(2 * GIB)
    first = bare.build(small, tmp_path)
    assert bare.build(small, tmp_path) == first
    assert bare.build(large, tmp_path).path != first.path
    assert made == [small, large]
    assert first.identity == ssh_keys.Identity(
        user=bare_tree.USER, user_key=tmp_path / "id_ed25519", host_key="ssh-ed25519 BBBB bare"
    )
    assert fake.asked


def test_a_failed_image_leaves_nothing_behind(
    fake: FakeShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_recipe: bare.Plain, disk: Path, *_: object) -> str:
        disk.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(ssh_keys, "make_key", lambda _: "ssh-ed25519 AAAA us")
    monkeypatch.setattr(bare, "_tree", lambda tar, *_: tar)
    monkeypatch.setattr(bare.Plain, "write", write)
    with pytest.raises(KeyboardInterrupt):
        bare.build(bare.Plain(GIB), tmp_path)
    assert {file.suffix for file in (tmp_path / "images").iterdir()} == {".lock"}
    assert fake.asked


def test_partitions_are_read_back_in_bytes(fake: FakeShell) -> None:
    rows = [{"start": 2048, "size": 1048576}, {"start": 1050624, "size": 4096}]
    fake.answers["sfdisk --json"] = json.dumps({"partitiontable": {"partitions": rows}})
    boot, rest = partitions.partition(Path("disk"), "label: dos\n")
    assert boot == partitions.Extent(2**20, 512 * 2**20)
    assert rest == partitions.Extent(1050624 * 512, 4096 * 512)


@pytest.mark.commands
def test_a_users_own_temporary_folder_is_none_of_the_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp/user/0")
    assert "TMPDIR=/tmp" in shell.run(["env"], env=chroot.environment()).stdout.splitlines()


def test_a_loop_device_is_given_back_on_error(fake: FakeShell) -> None:
    fake.answers["losetup --find"] = "/dev/loop5\n"
    with pytest.raises(KeyboardInterrupt), loop.attached(Path("disk"), offset=512, size=1024):
        raise KeyboardInterrupt
    assert fake.asked == [
        ("losetup", "--find", "--show", "--offset", "512", "--sizelimit", "1024", "disk"),
        ("losetup", "--detach", "/dev/loop5"),
    ]


@pytest.mark.commands
def test_a_key_pair_is_made_once_and_private(tmp_path: Path) -> None:
    private = tmp_path / "state" / "id_ed25519"
    public = ssh_keys.make_key(private)
    assert public.startswith("ssh-ed25519 ")
    assert private.stat().st_mode & 0o777 == 0o600
    assert ssh_keys.make_key(private) == public


def test_known_hosts_and_ssh_name_the_same_host(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    ssh_keys.write_known_hosts(known, "127.0.0.1", 2222, "ssh-ed25519 AAAA comment here")
    assert known.read_text() == "[127.0.0.1]:2222 ssh-ed25519 AAAA\n"
    login = ssh_keys.Login("127.0.0.1", 2222, "vagrant", tmp_path / "key", known)
    argv = login.ssh_argv("uptime")
    assert argv[-2:] == ["vagrant@127.0.0.1", "uptime"]
    assert f"UserKnownHostsFile={known}" in argv
    assert argv[argv.index("-p") + 1] == "2222"
