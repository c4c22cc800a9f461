"""The description of a virtual machine in the Open Virtualization Format (DMTF DSP0243, 1.1).

The template beside this file has it. Every hypervisor reads the standard's own section. There the
schema demands properties in alphabetical order; a ``ResourceType`` is one of
CIM_ResourceAllocationSettingData (3 processors, 4 memory, 10 network card, 17 disk, 20 SATA), and
``OperatingSystemSection`` has the OsType of CIM_OperatingSystem (96: Debian, 64 bits).

VirtualBox would not take the type of the network card or the options of the disk from it: these
are in ``vbox:Machine``, which it reads instead, and which other hypervisors skip. It gives a virtio
card, a disk that takes discards, no sound and no serial port, in the format of VirtualBox 6.0,
which newer versions read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from deploys.settings import MIB

_TEMPLATE = Path(__file__).with_name("machine.ovf")


@dataclass(frozen=True, slots=True)
class Appliance:
    """A machine with one disk: ``file`` beside the description, ``file_size`` bytes long.

    ``capacity`` is the disk's size as the machine sees it, ``memory`` its memory, both in bytes;
    ``mac`` is twelve hexadecimal digits; the machine's UUIDs are derived from ``identity``. No
    value has a character that XML would quote.
    """

    name: str
    file: str
    file_size: int
    capacity: int
    memory: int
    cpus: int
    mac: str
    identity: str


def describe(machine: Appliance) -> bytes:
    """The description of the machine, an XML document."""
    values = asdict(machine) | {
        "memory": machine.memory // MIB,
        "disk_uuid": _uuid(machine, "disk"),
        "machine_uuid": _uuid(machine, "machine"),
    }
    return Template(_TEMPLATE.read_text("utf-8")).substitute(values).encode()


def manifest(sums: Mapping[str, str]) -> bytes:
    """The manifest: a file with the SHA-256 of each other file, by name."""
    return "".join(f"SHA256({name})= {checksum}\n" for name, checksum in sums.items()).encode()


def _uuid(machine: Appliance, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{machine.identity} {what}"))
