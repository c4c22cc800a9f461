"""The description of the machine: what hypervisors need, where the standard's schema wants it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from deploys.settings import GIB
from tasks.boxes.ship import ovf

APPLIANCE = ovf.Appliance(
    name="openkim-pipeline",
    file="box-disk001.vmdk",
    file_size=123,
    capacity=24 * GIB,
    memory=2 * GIB,
    cpus=2,
    mac="0800270B0C5E",
    identity="c0ffee",
)
SPACES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "vbox": "http://www.virtualbox.org/ovf/machine",
}
OVF = f"{{{SPACES['ovf']}}}"
VBOX = f"{{{SPACES['vbox']}}}"


@pytest.fixture
def envelope() -> ElementTree.Element:
    return ElementTree.fromstring(ovf.describe(APPLIANCE))


def names(element: ElementTree.Element) -> list[str]:
    """The children's names, those of the standard without their namespace."""
    return [each.tag.removeprefix(OVF) for each in element]


def one(element: ElementTree.Element, path: str) -> ElementTree.Element:
    [found] = element.findall(path, SPACES)
    return found


def items(envelope: ElementTree.Element) -> dict[str, dict[str, str]]:
    """The hardware's items by their type, each with its properties."""
    found = {}
    for item in envelope.iterfind(".//ovf:Item", SPACES):
        properties = {each.tag.partition("}")[2]: each.text or "" for each in item}
        found[properties["ResourceType"]] = properties
    return found


def test_the_parts_come_in_the_order_of_the_schema(envelope: ElementTree.Element) -> None:
    """DSP8023: References, then sections, then the machine; Info first in each of them."""
    assert envelope.tag == f"{OVF}Envelope"
    assert names(envelope) == ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    system = one(envelope, "ovf:VirtualSystem")
    assert names(system)[:3] == ["Info", "OperatingSystemSection", "VirtualHardwareSection"]
    hardware = one(system, "ovf:VirtualHardwareSection")
    assert names(hardware) == ["Info", "System", *["Item"] * 5]
    assert [each.tag for each in system[3:]] == [f"{VBOX}Machine"]
    # VirtualBox's too: the schema has no place for what is not a section
    for section in (*envelope[1:], *system[1:]):
        assert names(section)[0] == "Info"


def test_every_attribute_of_the_standard_is_qualified(envelope: ElementTree.Element) -> None:
    """attributeFormDefault is "qualified"; those that are required are there."""
    for element in envelope.iter():
        if element.tag.startswith(OVF):
            assert all(key.startswith("{") for key in element.attrib), element.tag
    assert one(envelope, "ovf:References/ovf:File").attrib == {
        f"{OVF}href": "box-disk001.vmdk",
        f"{OVF}id": "file1",
        f"{OVF}size": "123",
    }
    assert one(envelope, "ovf:VirtualSystem").get(f"{OVF}id") == "openkim-pipeline"
    assert one(envelope, ".//ovf:OperatingSystemSection").get(f"{OVF}id") == "96"


def test_properties_come_in_the_order_of_the_alphabet(envelope: ElementTree.Element) -> None:
    """DSP8023 1.x has them as a sequence; those that each item must have are there."""
    for properties in items(envelope).values():
        assert list(properties) == sorted(properties)
        assert {"ElementName", "InstanceID", "ResourceType"} <= set(properties)
    system = [each.tag.partition("}")[2] for each in one(envelope, ".//ovf:System")]
    assert system == sorted(system)


def test_the_disk_hangs_on_the_controller_and_is_the_file(envelope: ElementTree.Element) -> None:
    found = items(envelope)
    assert found["17"]["Parent"] == found["20"]["InstanceID"]
    assert found["17"]["HostResource"] == "ovf:/disk/disk1"
    disk = one(envelope, "ovf:DiskSection/ovf:Disk")
    assert disk.get(f"{OVF}diskId") == "disk1"
    assert disk.get(f"{OVF}fileRef") == "file1"
    assert disk.get(f"{OVF}capacity") == str(24 * GIB)
    assert str(disk.get(f"{OVF}format")).endswith("vmdk.html#streamOptimized")
    image = one(envelope, ".//AttachedDevice/Image")
    assert image.get("uuid") == f"{{{disk.get(f'{VBOX}uuid')}}}"


def test_memory_processors_and_network(envelope: ElementTree.Element) -> None:
    found = items(envelope)
    assert found["3"]["VirtualQuantity"] == "2"
    assert (found["4"]["VirtualQuantity"], found["4"]["AllocationUnits"]) == ("2048", "byte * 2^20")
    network = one(envelope, "ovf:NetworkSection/ovf:Network").get(f"{OVF}name")
    assert found["10"]["Connection"] == network == "NAT"
    assert found["20"]["ResourceSubType"] == "AHCI"


def test_virtualbox_gets_what_the_standard_cannot_say(envelope: ElementTree.Element) -> None:
    machine = one(envelope, ".//vbox:Machine")
    assert machine.get(f"{OVF}required") == "false"
    adapter = one(machine, "Hardware/Network/Adapter")
    assert (adapter.get("type"), adapter.get("MACAddress")) == ("virtio", "0800270B0C5E")
    assert one(machine, "Hardware/Display").get("controller") == "VMSVGA"
    assert one(machine, "Hardware/AudioAdapter").get("enabled") == "false"
    device = one(machine, "StorageControllers/StorageController/AttachedDevice")
    assert (device.get("nonrotational"), device.get("discard")) == ("true", "true")
    assert machine.find(".//UART") is None


def test_the_same_machine_gives_the_same_bytes() -> None:
    assert ovf.describe(APPLIANCE) == ovf.describe(APPLIANCE)
    assert ovf.describe(APPLIANCE).startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n')


def test_a_manifest_is_a_line_for_each_file() -> None:
    assert (
        ovf.manifest({"a.ovf": "1f", "a.vmdk": "2e"}) == b"SHA256(a.ovf)= 1f\nSHA256(a.vmdk)= 2e\n"
    )
