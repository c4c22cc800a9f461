"""The box of ``inv box.build``, with nothing but itself: it boots, lets Vagrant in, resets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import fabric
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tasks.desk import ssh_keys
from tasks.desk.flags import load
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.connection import Host
from tests.boot.conftest import CPUS
from tests.boot.lab.box import DEADLINE, SMALL, Box
from tests.hosts.guest import Guest
from tests.hosts.machine import starts_by_uefi

OVMF = Path("/usr/share/ovmf/OVMF.fd")
HOST_KEYS = [
    f"ssh_host_{kind}_key{suffix}" for kind in ("ecdsa", "ed25519") for suffix in ("", ".pub")
]
NOBODY = ssh_keys.Identity(user="vagrant", user_key=Path("/dev/null"), host_key="ssh-ed25519 AAAA")


@contextlib.contextmanager
def first_boot(
    built: Path,
    folder: Path,
    accel: accelerator.Accelerator,
    firmware: Path | None = None,
    backing: Literal["raw", "qcow2"] = "raw",
) -> Iterator[Box]:
    """The box in its first boot, logged in to with Vagrant's password."""
    disk = bare.overlay(built, folder / "root.qcow2", backing=backing)
    words = starts_by_uefi(firmware) if firmware else ()
    machine = Machine(disks=(disk,), cpus=CPUS, arguments=words)
    with Guest.start(folder, machine, NOBODY, accel) as guest:
        login = guest.login
        login.known_hosts.write_text(scanned(login))
        secret = {"password": "vagrant", "look_for_keys": False, "allow_agent": False}
        connection = fabric.Connection(
            login.host, user="vagrant", port=login.port, connect_kwargs=secret
        )
        host = Host(connection, login.known_hosts)
        try:
            host.wait(DEADLINE)
            yield Box(guest, host, SMALL)
        finally:
            host.close()


@pytest.fixture(scope="module")
def box(
    built: Path, accel: accelerator.Accelerator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    """A box that the tests share, in order, started by UEFI."""
    with first_boot(built, tmp_path_factory.mktemp("built"), accel, OVMF) as running_box:
        yield running_box


def scanned(login: ssh_keys.Login) -> str:
    """The host keys of a machine that is coming up, as lines of known_hosts."""

    def scan() -> str:
        argv = ["ssh-keyscan", "-T", "10", "-p", str(login.port), login.host]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    tries = Retrying(
        retry=retry_if_result(lambda lines: not lines),
        stop=stop_after_delay(DEADLINE),
        wait=wait_fixed(1),
    )
    return str(tries(scan))


def measured(page: str) -> dict[str, Any]:
    """What a box that came up a moment ago says of itself."""

    def ask() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"{page}status.json", timeout=60) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it has not measured itself yet
                return None
            raise

    tries = Retrying(
        retry=retry_if_result(lambda found: found is None),
        stop=stop_after_delay(DEADLINE),
        wait=wait_fixed(1),
    )
    found = tries(ask)
    assert found is not None
    return found


def test_it_boots_by_uefi(box: Box) -> None:
    """By BIOS the other files' boxes come up."""
    box.succeed("test -d /sys/firmware/efi")


def test_first_boot_takes_a_fresh_snapshot(box: Box) -> None:
    assert (box.verdict.name, box.verdict.reason) == ("fresh", "")
    assert box.state.initrd_matches
    assert box.state.snapshot_percent is not None
    box.succeed("findmnt --noheadings /persistent")
    assert box.succeed("swapon --show=NAME --noheadings").strip()


def test_it_is_what_its_manifest_says(box: Box) -> None:
    digest = box.succeed("sha256sum /etc/pipeline/manifest.json").split()[0]
    assert box.state.release["MANIFEST"] == digest
    assert (
        box.succeed("timeout 300 systemctl is-system-running --wait || systemctl --failed").strip()
        == "running"
    )


def test_vagrant_finds_what_it_expects(box: Box) -> None:
    keyring = box.succeed("cat /home/vagrant/.ssh/authorized_keys")
    assert keyring.count("vagrant insecure public key") == 2
    assert box.succeed("stat -c '%U %a' /home/vagrant/.ssh").strip() == "vagrant 700"
    assert box.succeed("sudo -u vagrant sudo -n id -u").strip() == "0"
    assert box.succeed("/home/vagrant/shrink").startswith("/ reset 0")
    # VirtualBox's network card, and its disk's controller
    box.succeed("modinfo e1000 ahci")


def test_nothing_of_its_making_is_left(box: Box) -> None:
    box.fail("ls /etc/ssh/ssh_host_*_key")
    box.fail("ls /home/*/.bash_history /root/.bash_history /etc/dpkg/dpkg.cfg.d/99mmdebstrap")
    assert box.succeed("ls /persistent/ssh").split() == sorted(HOST_KEYS)


def test_its_status_page_is_seen_from_outside(box: Box) -> None:
    with urllib.request.urlopen(box.guest.page, timeout=60) as page:
        assert b"<title>Pipeline box</title>" in page.read()
    found = measured(box.guest.page)
    assert (found["mode"], found["verdict"]) == ("snapshot", {"name": "fresh"})
    assert found["snapshot_percent"] < 80
    assert found["manifest"] == box.state.release["MANIFEST"]
    assert found["alarms"] == []
    [user] = box.succeed("ps -o uid= -C python3").split()
    units = "-u status-page.service -u status-page-gather.service"
    assert box.succeed(f"journalctl --boot --quiet {units}") == ""
    assert 61184 <= int(user) <= 65519  # systemd's own, for as long as it runs; see DynamicUser=


def test_a_provision_over_ssh_finds_nothing_to_change(box: Box) -> None:
    before = box.state.boot_id
    assert not box.provision().changed
    assert box.state.boot_id == before


def test_the_second_boot_resets_and_is_the_same_host(box: Box) -> None:
    box.succeed("touch /root/junk /persistent/kept")
    machine = box.succeed("cat /etc/machine-id").strip()
    assert len(machine) == 32
    state = box.reboot()  # its host key is checked against what was seen at the first boot
    assert state.verdict is not None
    assert state.verdict.name == "fresh"
    assert box.succeed("cat /etc/machine-id").strip() == machine
    box.fail("test -e /root/junk")
    box.succeed("test -e /persistent/kept")


def test_its_settings_are_those_of_the_build(box: Box) -> None:
    of_box = load(None, SMALL).of_box()
    assert box.succeed("cat /etc/pipeline/settings.json").strip() == of_box.strip()
    assert dataclasses.asdict(box.state)["defaults"]["LVSIZE"] == "100%ORIGIN"
