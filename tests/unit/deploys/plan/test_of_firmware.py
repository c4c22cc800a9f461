"""What a host that UEFI started gets, and why it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploys.errors import PreflightError
from deploys.facts.lvm import LogicalVolume
from deploys.operations.disks import EFI_SYSTEM
from deploys.plan.of_firmware import ESP_SIZE, EfiPlan
from deploys.plan.preflight import plan_volumes
from deploys.plan.result import Kind, VolumePlan
from deploys.plan.sizes import needed_disk
from deploys.plan.survey import Survey
from deploys.settings import GIB, MIB, Volumes
from tests.unit.deploys.plan.survey_builder import (
    DEBIAN_ESP,
    UEFI,
    WITH_REMOVABLE,
    by_uefi,
    disk,
    lvm_host,
    part,
    plain_host,
)

SETTINGS = Volumes()
SPARE = disk("/dev/vdb", 24 * GIB)
LVM = lvm_host(free=10 * GIB)
BOOT = part("/dev/vda1", 512 * MIB, on="/boot", fstype="ext4", uuid="boot-uuid")
NAMED = lvm_host(free=10 * GIB, boot=BOOT)
FAT_BOOT = replace(LVM, mounts=(LVM.mounts[0], replace(LVM.mounts[1], fstype="vfat")))
BOX = lvm_host(
    LogicalVolume("root", "host-vg", 4 * GIB),
    LogicalVolume("persistent", "host-vg", 2 * GIB),
    LogicalVolume("root_snap", "host-vg", 5 * GIB, origin="root"),
    free=GIB,
    mounted="root_snap",
)
MORE_GRUBS = {**DEBIAN_ESP, "other/grubx64.efi": MIB}


def plan(survey: Survey) -> VolumePlan:
    return plan_volumes(survey, SETTINGS)


def efi_rows(survey: Survey) -> list[tuple[str, str, str]]:
    efi = plan(survey).efi
    return efi.rows() if efi else []


def test_a_spare_disk_gets_a_partition_that_firmware_starts_from() -> None:
    found = plan(by_uefi(plain_host(SPARE)))
    assert found.kind is Kind.SPARE
    assert [(p.label, p.type == EFI_SYSTEM) for p in found.layout] == [
        ("resnap-bios", False),
        ("resnap-esp", True),
        ("resnap-boot", False),
        ("resnap-lvm", False),
    ]
    assert (found.boot_partition, found.physical_volume) == ("/dev/vdb3", "/dev/vdb4")
    assert found.efi == EfiPlan("/dev/vdb2", disk="/dev/vdb", number=2, new=True, entry=True)
    assert ("filesystem", "/dev/vdb2", "FAT for /boot/efi") in found.rows()


def test_its_room_is_counted() -> None:
    least = needed_disk(2 * GIB, SETTINGS) + ESP_SIZE
    host = plain_host(disk("/dev/vdb", least), used=GIB // 2)
    assert plan(by_uefi(host)).volumes[0].size >= 2 * GIB
    small = plain_host(disk("/dev/vdb", least - 64 * MIB), used=GIB // 2)
    with pytest.raises(PreflightError, match="too small"):
        plan_volumes(by_uefi(small), Volumes(root_size=2 * GIB))


LOADERS = {
    "of a spare disk": (
        by_uefi(plain_host(SPARE)),
        [
            ("boot loader", "/dev/vdb2", "EFI/pipeline and EFI/BOOT"),
            ("boot entry", "pipeline", "to /dev/vdb2, the first"),
        ],
    ),
    "of a spare disk, and the old one would come before it": (
        by_uefi(plain_host(SPARE), WITH_REMOVABLE, firmware=replace(UEFI, writable=False)),
        [
            ("boot loader", "/dev/vdb2", "EFI/pipeline and EFI/BOOT"),
            ("rename", "/dev/vda15", "EFI/BOOT/BOOTX64.EFI to BOOTX64.OLD"),
            ("boot entry", "pipeline", "none: NVRAM is not writable"),
        ],
    ),
    "of a spare disk, where nothing else is": (
        by_uefi(plain_host(SPARE), esps=0),
        [
            ("boot loader", "/dev/vdb2", "EFI/pipeline and EFI/BOOT"),
            ("boot entry", "pipeline", "to /dev/vdb2, the first"),
        ],
    ),
    "of a host on LVM, by its boot entry alone so far": (
        by_uefi(LVM),
        [("boot loader", "/dev/vda15", "EFI/BOOT, a copy of EFI/debian")],
    ),
    "of a host on LVM, with both": (by_uefi(LVM, WITH_REMOVABLE), []),
    "mounted, one of several": (
        by_uefi(LVM, esps=2, mounted=True),
        [("boot loader", "/dev/vda15", "EFI/BOOT, a copy of EFI/debian")],
    ),
    "of a host that is extended": (
        by_uefi(lvm_host(free=GIB, spare=(SPARE,), device="/dev/vdb"), WITH_REMOVABLE),
        [],
    ),
    "that reads this /boot": (by_uefi(NAMED, WITH_REMOVABLE, reads=("boot-uuid",)), []),
    "of a box": (by_uefi(BOX), []),
}


@pytest.mark.parametrize("case", LOADERS)
def test_the_loader(case: str) -> None:
    survey, rows = LOADERS[case]
    assert efi_rows(survey) == rows


REFUSALS = {
    "small firmware": (
        by_uefi(plain_host(SPARE), firmware=replace(UEFI, bits=32)),
        "UEFI firmware has 32 bits; it must have 64",
    ),
    "secure, and nothing signed": (
        by_uefi(LVM, firmware=replace(UEFI, secure_boot=True, signed=False)),
        "Secure Boot is on, and the signed loader is not installed: install grub-efi-amd64-signed",
    ),
    "several partitions, none mounted": (
        by_uefi(plain_host(SPARE), esps=2),
        r"several EFI system partitions \(/dev/vda15, /dev/vda14\): mount the one",
    ),
    "no partition": (by_uefi(LVM, esps=0), "its disks have no EFI system partition"),
    "not by GRUB": (
        by_uefi(LVM, firmware=replace(UEFI, grub=False)),
        "started by UEFI, and not by GRUB: /boot/grub/x86_64-efi is missing",
    ),
    "a GRUB of another system": (
        by_uefi(NAMED, reads=("another",)),
        r"GRUB on /dev/vda15 does not read /boot \(/dev/vda1, boot-uuid\)",
    ),
    "a partition of UEFI's is /boot": (
        by_uefi(FAT_BOOT),
        r"/boot \(/dev/vda1\) is the EFI system partition",
    ),
    "no room": (
        by_uefi(LVM, free=5 * MIB),
        "/dev/vda15 has 5 MiB free; a loader at its removable path needs 6 MiB",
    ),
    "no GRUB there": (by_uefi(LVM, {}), "/dev/vda15 has no GRUB: run grub-install --force-extra"),
    "more than one": (by_uefi(LVM, MORE_GRUBS), r"several GRUBs \(debian, other\): run"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    survey, words = REFUSALS[case]
    with pytest.raises(PreflightError, match=words) as raised:
        plan(survey)
    assert "\n" not in str(raised.value)


def test_secure_boot_is_no_fault_where_the_chain_is_signed() -> None:
    survey = by_uefi(plain_host(SPARE), firmware=replace(UEFI, secure_boot=True))
    assert plan(survey).efi is not None


def test_a_partition_of_an_mbr_counts_as_one_of_a_gpt() -> None:
    survey = by_uefi(LVM)
    first, *others = survey.blocks.disks
    children = (*first.children[:-1], replace(first.children[-1], parttype="0xef"))
    blocks = replace(survey.blocks, disks=(replace(first, children=children), *others))
    assert [p.path for p in replace(survey, blocks=blocks).efi_partitions] == ["/dev/vda15"]
