"""What started a host, and what is on the partition it was started from."""

from __future__ import annotations

import pytest

from deploys.facts.firmware import Esp, EspContent, Firmware, FirmwareState

STATES = {
    "bios": ([], FirmwareState()),
    "uefi, nothing more": (["kind=uefi", "bits=64"], FirmwareState("uefi")),
    "small firmware": (["kind=uefi", "bits=32"], FirmwareState("uefi", bits=32)),
    "no variables at all": (["kind=uefi", "bits="], FirmwareState("uefi")),
    "secure": (
        ["kind=uefi", "bits=64", "secure=yes", "writable=yes", "signed=yes", "grub=yes"],
        FirmwareState("uefi", 64, secure_boot=True, writable=True, signed=True, grub=True),
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_firmware(case: str) -> None:
    output, state = STATES[case]
    assert Firmware().process(output) == state


def test_fat_does_not_tell_cases_apart() -> None:
    content = Esp().process(
        ["free 4096", "file 12 EFI/BOOT/BOOTX64.EFI", "file 7 efi/debian/grub.cfg", "reads 1-2"]
    )
    assert content == EspContent({"boot/bootx64.efi": 12, "debian/grub.cfg": 7}, 4096, ("1-2",))
    assert content.has_removable


def test_a_partition_that_cannot_be_read_has_nothing() -> None:
    assert Esp().process([]) == EspContent()
    assert not EspContent().has_removable
