"""Hosts for the tests of the volumes' plan, in the fewest words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deploys.facts.disks import BlockDevice, BlockTree, LoopFile, Mount
from deploys.facts.firmware import EspContent, FirmwareState
from deploys.facts.lvm import LogicalVolume, LvmReport, PhysicalVolume, VolumeGroup
from deploys.facts.mapper import mapper_path
from deploys.operations.disks import EFI_SYSTEM
from deploys.plan.sizes import EXTENT
from deploys.plan.survey import Device, Survey
from deploys.settings import GIB, MIB, own_volumes

FREE = LoopFile(device="/dev/loop3")


def part(path: str, size: int, *, on: str = "", **more: object) -> BlockDevice:
    mountpoints = (on,) if on else ()
    return BlockDevice(path=path, type="part", size=size, mountpoints=mountpoints, **more)  # type: ignore[arg-type]


def disk(path: str, size: int, *children: BlockDevice, **more: object) -> BlockDevice:
    pttype = str(more.pop("pttype", "gpt" if children else ""))
    return BlockDevice(path, "disk", size, pttype=pttype, children=children, **more)  # type: ignore[arg-type]


def plain_host(
    *spare: BlockDevice, device: str | None = "/dev/vdb", root: str = "ext4", used: int = GIB
) -> Survey:
    """One disk with one root partition of 8 GiB, and further disks."""
    vda1 = part("/dev/vda1", 8 * GIB - MIB, on="/", fstype=root, uuid="OLD-UUID")
    return Survey(
        blocks=BlockTree((disk("/dev/vda", 8 * GIB, vda1), *spare)),
        mounts=(Mount("/", "/dev/vda1", root, 8 * GIB, used, 7 * GIB - used),),
        kernel=40 * MIB,
        device=Device(device, device) if device else None,
    )


def one_disk(*more: BlockDevice, used: int = 4 * GIB, file: LoopFile = FREE) -> Survey:
    """A disk of 40 GiB with one root, as a rented server has it."""
    root = part("/dev/vda1", 40 * GIB, on="/", fstype="ext4", uuid="OLD-UUID")
    return replace(
        plain_host(device=None),
        blocks=BlockTree((disk("/dev/vda", 40 * GIB, root), *more)),
        mounts=(Mount("/", "/dev/vda1", "ext4", 40 * GIB, used, 39 * GIB - used),),
        file=file,
    )


def lvm_host(
    *lvs: LogicalVolume,
    free: int,
    mounted: str = "root",
    spare: tuple[BlockDevice, ...] = (),
    device: str | None = None,
    boot: BlockDevice | None = None,
    boot_free: int = 300 * MIB,
    fstab: Sequence[str] = own_volumes.fstab("host-vg"),
) -> Survey:
    """One disk with ``/boot`` and a VG ``host-vg``; ``mounted`` is the LV that is ``/``."""
    boot = boot or part("/dev/vda1", 512 * MIB, on="/boot", fstype="ext4")
    lvs = lvs or (LogicalVolume("root", "host-vg", 4 * GIB),)
    nodes = tuple(
        BlockDevice(
            mapper_path("host-vg", lv.name),
            "lvm",
            lv.size,
            "ext4",
            mountpoints=("/",) if lv.name == mounted else (),
        )
        for lv in lvs
    )
    size = sum(lv.size for lv in lvs) + free
    vda2 = part("/dev/vda2", size, fstype="LVM2_member", children=nodes)
    group = VolumeGroup(
        "host-vg", size, free, EXTENT, (PhysicalVolume("/dev/vda2", "host-vg", size, free),), lvs
    )
    mounts = [Mount("/", mapper_path("host-vg", mounted), "ext4", 4 * GIB, GIB, 3 * GIB)]
    mounts += [Mount(at, boot.path, "ext4", boot.size, 0, boot_free) for at in boot.mountpoints]
    return Survey(
        blocks=BlockTree((disk("/dev/vda", 32 * GIB, boot, vda2), *spare)),
        mounts=tuple(mounts),
        lvm=LvmReport((group,)),
        fstab=tuple(fstab),
        kernel=40 * MIB,
        device=Device(device, device) if device else None,
    )


# As Debian's installer leaves it, on a host that Secure Boot lets start.
DEBIAN_ESP: Mapping[str, int] = {
    "debian/shimx64.efi": MIB,
    "debian/grubx64.efi": 3 * MIB,
    "debian/mmx64.efi": MIB,
    "debian/grub.cfg": 100,
}
WITH_REMOVABLE: Mapping[str, int] = {**DEBIAN_ESP, "boot/bootx64.efi": MIB}
UEFI = FirmwareState("uefi", writable=True, signed=True, grub=True)


def by_uefi(
    survey: Survey,
    files: Mapping[str, int] = DEBIAN_ESP,
    *,
    free: int = 30 * MIB,
    reads: tuple[str, ...] = (),
    firmware: FirmwareState = UEFI,
    esps: int = 1,
    mounted: bool = False,
) -> Survey:
    """A host that UEFI started: ``esps`` EFI system partitions on its first disk, all alike."""
    first, *others = survey.blocks.disks
    at = "/boot/efi" if mounted else ""
    parts = [
        part(f"{first.path}{15 - n}", 64 * MIB, on=at, fstype="vfat", parttype=EFI_SYSTEM)
        for n in range(esps)
    ]
    first = replace(first, children=(*first.children, *parts))
    mounts = (*survey.mounts, *(Mount(at, p.path, "vfat") for p in parts[:1] if mounted))
    return replace(
        survey,
        blocks=BlockTree((first, *others)),
        mounts=mounts,
        firmware=firmware,
        esps={p.path: EspContent(files, free, reads) for p in parts},
    )
