"""What a guest is given at boot: its host key, and who logs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.guests import credentials
from tasks.guests.qemu.accelerator import Accelerator
from tasks.guests.qemu.hardware import Machine, argv

pytestmark = pytest.mark.commands


def test_the_guest_is_known_by_the_key_that_it_is_given(tmp_path: Path) -> None:
    user_key = tmp_path / "id_ed25519"
    identity, given = credentials.make(tmp_path / "guest", "me", user_key)
    host_key = given["ssh_host_ed25519_key"]
    assert host_key.stat().st_mode & 0o777 == 0o600
    assert host_key.with_suffix(".pub").read_text().strip() == identity.host_key
    lines = given["tmpfiles.extra"].read_text().splitlines()
    public = user_key.with_suffix(".pub").read_text().strip()
    assert lines[-1] == f"f+ /home/me/.ssh/authorized_keys 0600 me me - {public}\\n"


def test_a_second_start_gives_the_same(tmp_path: Path) -> None:
    first = credentials.make(tmp_path, "me", tmp_path / "key")
    assert credentials.make(tmp_path, "me", tmp_path / "key") == first


def test_qemu_hands_them_over_as_files(tmp_path: Path) -> None:
    machine = Machine(disks=(), credentials={"name": tmp_path / "a,b"})
    words = argv(tmp_path, machine, Accelerator("tcg", ""), 0)
    option = words[words.index("-fw_cfg") + 1]
    assert option == f"name=opt/io.systemd.credentials/name,file={tmp_path}/a,,b"
