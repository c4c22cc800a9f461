"""A machine's hardware in VirtualBox, and the commands that configure it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NamedTuple

from deploys.settings import STATUS_PORT
from tasks.guests.virtualbox import manage

HOST = "127.0.0.1"
MIB = 2**20
# A guest's ports that are forwarded, by the rule's name.
_RULES = {"ssh": 22, "status": STATUS_PORT}
_CONTROLLER = ("--storagectl", "SATA", "--port", "0", "--device", "0", "--type", "hdd")
# VirtualBox frees in the file what the guest trims.
_TRIMS = ("--nonrotational", "on", "--discard", "on")
# The first of the two SMBIOS OEM strings (type 11) that a user may set; see VirtualBox's manual,
# "Configuring the BIOS DMI Information". It has at most 255 characters.
_OEM_STRING = "VBoxInternal/Devices/pcbios/0/Config/DmiOEMVBoxVer"


class Ports(NamedTuple):
    """The ports of this host that are forwarded to a guest's SSH and status page; 0: none."""

    ssh: int
    page: int


def create(uuid: str, name: str, folder: Path, disk: Path, ports: Ports, oem_string: str) -> None:
    """Make a machine, which is off.

    Args:
        uuid: its identifier.
        name: its name in VirtualBox's window.
        folder: for its settings and its logs.
        disk: its disk, a VDI.
        ports: those of this host that are forwarded to it.
        oem_string: the SMBIOS string that the guest can read.

    Raises:
        BoxError: VBoxManage is missing or refused; the machine may exist in part.
    """
    registered = ("--uuid", uuid, "--ostype", "Debian_64", "--register")
    manage.run("createvm", "--name", name, "--basefolder", str(folder), *registered)
    manage.run("modifyvm", uuid, *_hardware(ports))
    manage.run("setextradata", uuid, _OEM_STRING, oem_string)
    controller = ("--name", "SATA", "--add", "sata", "--controller", "IntelAhci")
    manage.run("storagectl", uuid, *controller, "--portcount", "1")
    manage.run("storageattach", uuid, *_CONTROLLER, "--medium", str(disk), *_TRIMS)


def forwarded_anew(before: Ports, ports: Ports) -> list[str]:
    """The words of modifyvm that forward other ports of this host to the guest."""
    there = (rule for rule, port in zip(_RULES, before, strict=True) if port)
    deleted = [word for rule in there for word in ("--natpf1", "delete", rule)]
    return [*deleted, *_forwarded(ports)]


def free_port(wanted: int = 0) -> int:
    """A port on which nothing listens now: ``wanted`` if it is free (0: any), else another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _hardware(ports: Ports) -> list[str]:
    """The words of modifyvm. Devices that are left out, as UART and sound card, save boot time."""
    words = ["--firmware", "bios", "--ioapic", "on", "--rtcuseutc", "on"]
    words += ["--graphicscontroller", "vmsvga", "--vram", "16", "--audio-enabled", "off"]
    words += ["--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none"]
    return [*words, "--nic1", "nat", "--nictype1", "virtio", *_forwarded(ports)]


def _forwarded(ports: Ports) -> list[str]:
    pairs = zip(_RULES.items(), ports, strict=True)
    rules = [f"{rule},tcp,{HOST},{here},,{there}" for (rule, there), here in pairs]
    return [word for rule in rules for word in ("--natpf1", rule)]
