"""The description of a virtual machine in the Open Virtualization Format (DMTF DSP0243, 1.1).

Every hypervisor reads the standard's own section. VirtualBox would not take the type of the network
card or the options of the disk from it: these are in a section of VirtualBox's own, which it reads
instead, and which other hypervisors skip.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from deploys.settings import MIB

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2"
_RASD = f"{_CIM}/CIM_ResourceAllocationSettingData"
_VSSD = f"{_CIM}/CIM_VirtualSystemSettingData"
_VBOX = "http://www.virtualbox.org/ovf/machine"
_STREAM = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_PREFIXES = {"ovf": _OVF, "rasd": _RASD, "vssd": _VSSD, "vbox": _VBOX}
_DEBIAN = "96"  # CIM_OperatingSystem.OsType: Debian, 64 bits
# CIM_ResourceAllocationSettingData.ResourceType
_CPU, _MEMORY, _ETHERNET, _DISK, _SATA = "3", "4", "10", "17", "20"
# The format of VirtualBox 6.0, which newer versions read, and which has all that is used below.
_VBOX_SETTINGS = "1.16-linux"


@dataclass(frozen=True, slots=True)
class Appliance:
    """A machine with one disk: ``file`` beside the description, ``file_size`` bytes long.

    ``capacity`` is the disk's size as the machine sees it, ``memory`` its memory, both in bytes;
    ``mac`` is twelve hexadecimal digits; the machine's UUIDs are derived from ``identity``.
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
    for prefix, namespace in _PREFIXES.items():
        ElementTree.register_namespace(prefix, namespace)
    disk = f"{{{_uuid(machine, 'disk')}}}"
    envelope = ElementTree.Element(_ovf("Envelope"), {_ovf("version"): "1.0"})
    references = _add(envelope, "References")
    file = {"href": machine.file, "id": "file1", "size": str(machine.file_size)}
    _add(references, "File", **file)
    disks = _section(envelope, "DiskSection", "The machine's disk")
    attributes = {"capacity": str(machine.capacity), "diskId": "disk1", "fileRef": "file1"}
    about = _add(disks, "Disk", format=_STREAM, **attributes)
    about.set(f"{{{_VBOX}}}uuid", disk[1:-1])
    networks = _section(envelope, "NetworkSection", "The machine's networks")
    network = _add(networks, "Network", name="NAT")
    _add(network, "Description", "Out to the host's networks; nothing comes in")
    system = _section(envelope, "VirtualSystem", "A pipeline box", id=machine.name)
    os = _section(system, "OperatingSystemSection", "What is installed", id=_DEBIAN)
    _add(os, "Description", "Debian_64")
    vbox_os = ElementTree.SubElement(os, f"{{{_VBOX}}}OSType", {_ovf("required"): "false"})
    vbox_os.text = "Debian_64"
    _hardware(system, machine)
    _virtualbox(system, machine, disk)
    ElementTree.indent(envelope, " ")
    text = ElementTree.tostring(envelope, "unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def manifest(sums: Mapping[str, str]) -> bytes:
    """The manifest: a file with the SHA-256 of each other file, by name."""
    return "".join(f"SHA256({name})= {checksum}\n" for name, checksum in sums.items()).encode()


def _hardware(system: ElementTree.Element, machine: Appliance) -> None:
    section = _section(system, "VirtualHardwareSection", "What the machine is made of")
    about = _add(section, "System")
    _properties(
        about,
        _VSSD,
        ElementName="Virtual Hardware Family",
        InstanceID="0",
        VirtualSystemIdentifier=machine.name,
        VirtualSystemType="virtualbox-2.2",
    )
    memory = str(machine.memory // MIB)
    # The schema demands properties in alphabetical order.
    items: tuple[dict[str, str], ...] = (
        {
            "ElementName": f"{machine.cpus} processors",
            "InstanceID": "1",
            "ResourceType": _CPU,
            "VirtualQuantity": str(machine.cpus),
        },
        {
            "AllocationUnits": "byte * 2^20",
            "ElementName": f"{memory} MiB of memory",
            "InstanceID": "2",
            "ResourceType": _MEMORY,
            "VirtualQuantity": memory,
        },
        {
            "Address": "0",
            "ElementName": "SATA controller",
            "InstanceID": "3",
            "ResourceSubType": "AHCI",
            "ResourceType": _SATA,
        },
        {
            "AddressOnParent": "0",
            "ElementName": "Disk",
            "HostResource": "ovf:/disk/disk1",
            "InstanceID": "4",
            "Parent": "3",
            "ResourceType": _DISK,
        },
        {
            "AutomaticAllocation": "true",
            "Connection": "NAT",
            "ElementName": "Network card on NAT",
            "InstanceID": "5",
            "ResourceSubType": "E1000",
            "ResourceType": _ETHERNET,
        },
    )
    for item in items:
        _properties(_add(section, "Item"), _RASD, **item)


def _virtualbox(system: ElementTree.Element, machine: Appliance, disk: str) -> None:
    """VirtualBox's section: a virtio card, a disk that takes discards, no sound, no serial port."""
    attributes = {
        _ovf("required"): "false",
        "version": _VBOX_SETTINGS,
        "uuid": f"{{{_uuid(machine, 'machine')}}}",
        "name": machine.name,
        "OSType": "Debian_64",
    }
    section = ElementTree.SubElement(system, f"{{{_VBOX}}}Machine", attributes)
    _add(section, "Info", "The same in VirtualBox's own words")
    hardware = _plain(section, "Hardware")
    cpu = _plain(hardware, "CPU", count=str(machine.cpus))
    _plain(cpu, "PAE", enabled="true")
    _plain(cpu, "LongMode", enabled="true")
    _plain(cpu, "X2APIC", enabled="true")
    _plain(hardware, "Memory", RAMSize=str(machine.memory // MIB))
    _plain(_plain(hardware, "Boot"), "Order", position="1", device="HardDisk")
    _plain(hardware, "Display", controller="VMSVGA", VRAMSize="16")
    _plain(_plain(hardware, "BIOS"), "IOAPIC", enabled="true")
    adapter = _plain(
        _plain(hardware, "Network"),
        "Adapter",
        slot="0",
        enabled="true",
        MACAddress=machine.mac,
        type="virtio",
    )
    _plain(adapter, "NAT")
    _plain(hardware, "AudioAdapter", enabled="false")
    _plain(hardware, "RTC", localOrUTC="UTC")
    controller = _plain(
        _plain(section, "StorageControllers"),
        "StorageController",
        name="SATA",
        type="AHCI",
        PortCount="1",
        useHostIOCache="false",
        Bootable="true",
    )
    device = _plain(
        controller,
        "AttachedDevice",
        type="HardDisk",
        nonrotational="true",
        discard="true",
        port="0",
        device="0",
    )
    _plain(device, "Image", uuid=disk)


def _uuid(machine: Appliance, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{machine.identity} {what}"))


def _ovf(name: str) -> str:
    return f"{{{_OVF}}}{name}"


def _add(
    parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    qualified = {_ovf(key): value for key, value in attributes.items()}
    element = ElementTree.SubElement(parent, _ovf(tag), qualified)
    element.text = text
    return element


def _section(
    parent: ElementTree.Element, tag: str, info: str, **attributes: str
) -> ElementTree.Element:
    element = _add(parent, tag, **attributes)
    _add(element, "Info", info)
    return element


def _properties(parent: ElementTree.Element, namespace: str, **properties: str) -> None:
    for key, value in properties.items():
        ElementTree.SubElement(parent, f"{{{namespace}}}{key}").text = value


def _plain(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    """An element below ``vbox:Machine``, where VirtualBox uses no prefix."""
    return ElementTree.SubElement(parent, tag, attributes)
