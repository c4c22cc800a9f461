"""Read a host's disks, volumes and firmware, from which its volumes are planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pyinfra.api.facts import FactBase

from deploys.errors import PreflightError
from deploys.facts.disks import (
    AttachedFile,
    BlockDevice,
    BlockDevices,
    BlockTree,
    Filesystems,
    Fstab,
    KernelSize,
    Links,
    LoopFile,
    Mount,
    RealPath,
    Signatures,
)
from deploys.facts.firmware import Esp, EspContent, Firmware, FirmwareState
from deploys.facts.lvm import (
    LogicalVolume,
    Lvm,
    LvmConfig,
    LvmConfigured,
    LvmReport,
    VolumeGroup,
)
from deploys.operations.disks import EFI_SYSTEM
from deploys.operations.root import FILE, HOST
from deploys.settings import own_volumes

T = TypeVar("T")
_MBR_EFI_SYSTEM = "0xef"


class ReadFact(Protocol):
    """A function that reads a fact from a host, as ``Session.fact``."""

    def __call__(self, fact: type[FactBase[T]], **arguments: Any) -> T: ...


@dataclass(frozen=True)
class Device:
    """The disk that the user named.

    ``name`` is as the user typed it. ``path`` is where it leads; empty if it does not exist.
    ``signatures`` are those on the disk, ``links`` its other names.
    """

    name: str
    path: str
    signatures: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """The state of a host's disks, volumes and firmware.

    ``kernel`` is the bytes of a kernel and its initrd, ``device`` the disk that the user named, if
    any; ``lvm_config`` is read if there is one, or no volume group. ``esps`` has the content of the
    ``efi_partitions``, by their paths. ``file`` is the file that a box on this root may lie in.
    """

    blocks: BlockTree
    mounts: tuple[Mount, ...]
    lvm: LvmReport = field(default_factory=LvmReport)
    firmware: FirmwareState = field(default_factory=FirmwareState)
    kernel: int = 0
    device: Device | None = None
    lvm_config: LvmConfig = field(default_factory=LvmConfig)
    esps: Mapping[str, EspContent] = field(default_factory=dict)
    fstab: tuple[str, ...] = ()
    file: LoopFile = field(default_factory=LoopFile)

    def mount(self, target: str) -> Mount | None:
        return next((mount for mount in self.mounts if mount.target == target), None)

    @property
    def lasting(self) -> tuple[Mount, ...]:
        """The filesystems that a reset of the root leaves as they are, without the box's own."""
        known = {"/", "/boot", "/boot/efi", HOST, *(row.mount for row in own_volumes.mounted())}
        return tuple(
            mount
            for mount in self.mounts
            if mount.target not in known and self.blocks.find(mount.source)
        )

    @property
    def root(self) -> Mount:
        """The mount of ``/``.

        Raises:
            PreflightError: no block device is mounted there.
        """
        root = self.mount("/")
        if root is None or self.blocks.find(root.source) is None:
            raise PreflightError(
                f"the root filesystem ({root.source if root else 'unknown'}) is not on a disk"
            )
        return root

    @property
    def root_lv(self) -> LogicalVolume | None:
        return self.lvm.lv_at(self.root.source)

    @property
    def is_in_file(self) -> bool:
        """Whether the root lies on a loop device."""
        return any(below.type == "loop" for below in self.blocks.stack(self.root.source))

    @property
    def spare_disks(self) -> tuple[str, ...]:
        """The disks that nothing is mounted from, and no volume group is on."""
        return tuple(
            disk.path
            for disk in self.blocks.disks
            if disk.type == "disk"
            and disk.size
            and not disk.ro
            and all(
                not device.mountpoints and device.type in ("disk", "part") for device in disk.walk()
            )
        )

    @property
    def efi_partitions(self) -> tuple[BlockDevice, ...]:
        """The EFI system partition at /boot/efi. Else all that are on the disks of / and /boot.

        Empty if BIOS started the host.
        """
        if self.firmware.kind != "uefi":
            return ()
        if (mount := self.mount("/boot/efi")) and (mounted := self.blocks.find(mount.source)):
            return (mounted,)
        sources = [mount.source for at in ("/", "/boot") if (mount := self.mount(at))]
        disks = {disk.path: disk for at in sources for disk in self.blocks.disks_under(at)}
        return tuple(
            device
            for disk in disks.values()
            for device in disk.walk()
            if device.parttype in (EFI_SYSTEM, _MBR_EFI_SYSTEM) and device.fstype == "vfat"
        )

    @property
    def disk(self) -> BlockDevice | None:
        """The block device that the user named."""
        return self.blocks.find(self.device.path) if self.device else None

    def has_part_of(self, group: VolumeGroup) -> bool:
        """Whether the disk that the user named has a PV of this VG."""
        on_disk = {device.path for device in self.disk.walk()} if self.disk else set()
        return any(pv.device in on_disk for pv in group.pvs)


def read_survey(fact: ReadFact, device: str | None = None) -> Survey:
    """Read a connected host. ``device`` is the disk that the user named, as typed."""
    named = None
    if device is not None:
        path = fact(RealPath, path=device)
        named = Device(device, path)
        if _is_node(path):  # wipefs reads block devices only
            signatures, links = fact(Signatures, device=path), fact(Links, device=path)
            named = Device(device, path, signatures, links)
    lvm = fact(Lvm)
    survey = Survey(
        blocks=fact(BlockDevices),
        mounts=fact(Filesystems),
        lvm=lvm,
        firmware=fact(Firmware),
        kernel=fact(KernelSize),
        device=named,
        lvm_config=fact(LvmConfigured) if named or not lvm.groups else LvmConfig(),
        fstab=fact(Fstab),
        file=fact(AttachedFile, path=FILE),
    )
    esps = {part.path: fact(Esp, device=part.path) for part in survey.efi_partitions}
    return replace(survey, esps=esps)


def _is_node(path: str) -> bool:
    return path.startswith("/dev/")
