"""A box as it is shipped, which was given nothing: it makes its host keys, and has a password."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import fabric

from tasks.desk import ssh_keys
from tasks.desk.awaiting import awaited
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.connection import Host
from tests.boot.lab.box import CPUS, DEADLINE, SMALL, Box
from tests.hosts.guest import Guest
from tests.hosts.machine import starts_by_uefi

HOST_KEYS = [
    f"ssh_host_{kind}_key{suffix}" for kind in ("ecdsa", "ed25519") for suffix in ("", ".pub")
]
OVMF = Path("/usr/share/ovmf/OVMF.fd")
_NOBODY = ssh_keys.Identity(user="vagrant", user_key=Path("/dev/null"), host_key="ssh-ed25519 AAAA")


def first_key(guest: Guest) -> str:
    """The host key that a guest makes in its first boot; its login knows it from then on."""
    login = guest.login
    key = awaited(
        lambda: ssh_keys.offered_key(login.host, login.port), DEADLINE, 1, guest.console.tail
    )
    ssh_keys.write_known_hosts(login.known_hosts, login.host, login.port, key)
    return key


@contextlib.contextmanager
def first_boot(
    disk: Path,
    folder: Path,
    accel: accelerator.Accelerator,
    firmware: Path | None = None,
    backing: Literal["raw", "qcow2"] = "raw",
) -> Iterator[Box]:
    """The box in its first boot, logged in to with Vagrant's password."""
    overlay = bare.overlay(disk, folder / "root.qcow2", backing=backing)
    words = starts_by_uefi(firmware) if firmware else ()
    machine = Machine(disks=(overlay,), cpus=CPUS, arguments=words)
    with Guest.start(folder, machine, _NOBODY, accel) as guest:
        first_key(guest)
        login = guest.login
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
