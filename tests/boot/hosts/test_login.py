"""Who is let in, and as what: keys, host keys, sudo's password."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import fabric
import pytest

from deploys.errors import DeployError, PreflightError, UnreachableError
from deploys.facts.state import State
from tasks.desk import ssh_keys
from tasks.hosts.connection import Host
from tests.boot.lab.box import Box

PASSWORD = 'it\'s a "secret" $(of) ours'


@pytest.fixture(scope="module")
def curator(box: Box) -> str:
    """A user who must give a password to sudo."""
    box.succeed("useradd --create-home --shell /bin/sh curator")
    box.succeed("cp -r /home/vagrant/.ssh /home/curator/")
    box.succeed("chown -R curator: /home/curator")
    box.succeed("echo curator ALL=ALL >/etc/sudoers.d/curator")
    words = shlex.quote(f"curator:{PASSWORD}")
    box.succeed(f"printf %s {words} | chpasswd")
    return "curator"


def host(
    box: Box, user: str, password: str | None = None, key: Path | None = None, known: bool = True
) -> Host:
    login = box.guest.login
    config = fabric.Config(overrides={"sudo": {"password": password}})
    connection = fabric.Connection(
        login.host,
        user=user,
        port=login.port,
        config=config,
        connect_kwargs={"key_filename": str(key or login.key), "look_for_keys": False},
    )
    return Host(connection, login.known_hosts if known else None)


def test_unknown_host_key_is_refused(box: Box) -> None:
    with pytest.raises(PreflightError, match="its host key is unknown: log in once"):
        host(box, "vagrant", known=False).state()


def test_changed_host_key_is_refused(box: Box, tmp_path: Path) -> None:
    login = box.guest.login
    other = ssh_keys.make_key(tmp_path / "other")
    ssh_keys.write_known_hosts(tmp_path / "known_hosts", login.host, login.port, other)
    connection = host(box, "vagrant")._connection
    remove = re.escape(f"ssh-keygen -R '[{login.host}]:{login.port}'")
    with pytest.raises(PreflightError, match=f"its host key is not the known one; .*{remove}"):
        Host(connection, tmp_path / "known_hosts").state()


def test_wrong_key_is_one_line(box: Box, tmp_path: Path) -> None:
    ssh_keys.make_key(tmp_path / "other")
    with pytest.raises(UnreachableError, match="vagrant is not let in"):
        host(box, "vagrant", key=tmp_path / "other").state()


def test_sudo_that_asks_is_told_how(box: Box, curator: str) -> None:
    with pytest.raises(PreflightError, match="--prompt-for-sudo-password"):
        host(box, curator).state()


def test_wrong_sudo_password_is_one_line(box: Box, curator: str) -> None:
    with pytest.raises(PreflightError, match="sudo refuses the password given"):
        host(box, curator, "wrong").state()


def test_sudo_password_is_never_in_a_command(box: Box, curator: str) -> None:
    asked = host(box, curator, PASSWORD)
    with asked.session() as session:
        assert session.fact(State).is_box
        assert asked.run("id -u") == "0\n"
        listed = asked.run("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; true")
    assert "secret" not in listed
    asked.close()


@pytest.fixture
def night(box: Box) -> Iterator[None]:
    """A program that blocks shutdowns."""
    words = "--what=shutdown --who='The backup' --why='It is night' sleep 1h"
    box.succeed(f"systemd-run --unit=night systemd-inhibit {words}")
    box.succeed("timeout 60 sh -c 'until systemd-inhibit --list | grep -q night; do sleep 1; done'")
    yield
    box.succeed("systemctl stop night")


@pytest.mark.usefixtures("night")
def test_a_program_that_blocks_a_reboot_is_named(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd 257 refuses it to root too; the next boot is the usual one."""
    before = box.state.boot_id
    with pytest.raises(PreflightError, match=r"blocked by The backup \(.*\): It is night\."):
        box.reboot("maintenance")
    monkeypatch.setattr(Host, "require_reboot", lambda _: None)
    with pytest.raises(DeployError, match="systemctl reboot"):
        box.reboot("maintenance")
    assert "next_entry=maintenance" not in box.succeed(
        "/usr/lib/resnap/with-boot grub-editenv /boot/grub/grubenv list"
    )
    assert box.state.boot_id == before
