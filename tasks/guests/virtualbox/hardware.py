"""A machine's hardware in VirtualBox, and the commands that make it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NamedTuple

from deploys.settings import STATUS_PORT
from tasks.guests.virtualbox import manage

HOST = "127.0.0.1"
MIB = 2**20
_RULES = {"ssh": 22, "status": STATUS_PORT}  # the forwarded ports of a guest, by their names
_CONTROLLER = ("--storagectl", "SATA", "--port", "0", "--device", "0", "--type", "hdd")
# What the guest trims, VirtualBox frees in the file.
_TRIMS = ("--nonrotational", "on", "--discard", "on")
# The first of the two SMBIOS strings (type 11) of its BIOS that a user may set; see VirtualBox's
# manual, "Configuring the BIOS DMI Information". It takes 255 characters.
_OEM_STRING = "VBoxInternal/Devices/pcbios/0/Config/DmiOEMVBoxVer"


class Ports(NamedTuple):
    """The ports of this host that lead to a guest's login and to its status page; 0: none does."""

    ssh: int
    page: int


def create(uuid: str, name: str, folder: Path, disk: Path, ports: Ports, oem_string: str) -> None:
    """Make a machine, which is off.

    Args:
        uuid: what it is told from others by.
        name: what VirtualBox's window shows.
        folder: where its settings and its logs are kept.
        disk: its disk, a VDI.
        ports: on this host, that lead to it.
        oem_string: what it finds in its firmware.

    Raises:
        BoxError: VBoxManage is missing or refused; the machine may be there in part.
    """
    registered = ("--uuid", uuid, "--ostype", "Debian_64", "--register")
    manage.run("createvm", "--name", name, "--basefolder", str(folder), *registered)
    manage.run("modifyvm", uuid, *_hardware(ports))
    manage.run("setextradata", uuid, _OEM_STRING, oem_string)
    controller = ("--name", "SATA", "--add", "sata", "--controller", "IntelAhci")
    manage.run("storagectl", uuid, *controller, "--portcount", "1")
    manage.run("storageattach", uuid, *_CONTROLLER, "--medium", str(disk), *_TRIMS)


def forwarded_anew(before: Ports, ports: Ports) -> list[str]:
    """The words of modifyvm that have other ports of this host lead to the guest."""
    there = (rule for rule, port in zip(_RULES, before, strict=True) if port)
    deleted = [word for rule in there for word in ("--natpf1", "delete", rule)]
    return [*deleted, *_forwarded(ports)]


def free_port(wanted: int = 0) -> int:
    """A port that nobody listens on now: the wanted one if it can be; 0 is any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _hardware(ports: Ports) -> list[str]:
    """The words of modifyvm; what is not there, a UART or a sound card, costs no boot time."""
    words = ["--firmware", "bios", "--ioapic", "on", "--rtcuseutc", "on"]
    words += ["--graphicscontroller", "vmsvga", "--vram", "16", "--audio-enabled", "off"]
    words += ["--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none"]
    return [*words, "--nic1", "nat", "--nictype1", "virtio", *_forwarded(ports)]


def _forwarded(ports: Ports) -> list[str]:
    pairs = zip(_RULES.items(), ports, strict=True)
    rules = [f"{rule},tcp,{HOST},{here},,{there}" for (rule, there), here in pairs]
    return [word for rule in rules for word in ("--natpf1", rule)]
