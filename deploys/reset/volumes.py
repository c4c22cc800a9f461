"""Carry out the plan of a host's volumes."""

from __future__ import annotations

from pyinfra.api.deploy import deploy
from pyinfra.operations import files

from deploys.facts.mapper import mapper_path
from deploys.operations import disks, lvm, packages
from deploys.operations.root import copy_root
from deploys.plan.result import Kind, VolumePlan
from deploys.reset.back import before
from deploys.settings import own_volumes
from deploys.settings.own_volumes import OwnVolume

# LVM reads lvmlocal.conf after lvm.conf, so the package's file stays as it is. Both are copied to
# the initramfs, where a reset gives the space back.
_LVMLOCAL = "devices {\n\tissue_discards = 1\n}"

# Without zstd initrds are made with gzip, which takes several times as long to make and to unpack.
PACKAGES = ("fdisk", "lvm2", "zstd")
# They make a disk that UEFI firmware starts from.
_UEFI_PACKAGES = ("dosfstools", "efibootmgr", "grub-efi-amd64-bin", "grub2-common")


@deploy("Volumes")
def volumes(plan: VolumePlan) -> None:
    """Make the volume group, its logical volumes and, for a plain root, the copy of the root.

    A step that is done already is left out, so a run that broke off can be started again. The plan
    has already refused disks and volumes that must not be overwritten.
    """
    _packages(plan)
    files.block(name="LVM gives freed space back", path="/etc/lvm/lvmlocal.conf", content=_LVMLOCAL)
    if plan.physical_volume:
        _disk(plan)
    for volume in plan.volumes:
        lvm.logical_volume(
            name=f"Logical volume {volume.name}",
            group=plan.volgroup,
            volume=volume.name,
            size=volume.size,
        )
        if volume.fstype:
            disks.filesystem(
                name=f"Filesystem of {volume.name}",
                device=mapper_path(plan.volgroup, volume.name),
                fstype=volume.fstype,
                label=volume.name,
            )
    if plan.copies_root:
        if not plan.copied:
            copy_root(
                name="Copy the root",
                group=plan.volgroup,
                volume=plan.lvroot,
                boot=plan.boot_partition,
                esp=plan.efi.partition if plan.efi else "",
            )
        return
    names = [volume.name for volume in plan.volumes]
    for row in own_volumes.mounted():
        if row.name in names:
            _mount(row, plan.volgroup)
        else:  # of a box of an older version
            _options(row.mount, ("nodev", "nosuid"))
    if plan.kind is not Kind.BOX:
        for target in ("/boot", "/boot/efi", "/efi"):
            _options(target, tuple(disks.NOFAIL.split(",")))  # so that a boot goes on without it


def _packages(plan: VolumePlan) -> None:
    packages.present(
        name="LVM and initramfs tools",
        packages=(*PACKAGES, *(_UEFI_PACKAGES if plan.efi and plan.efi.disk else ())),
        # The old root keeps its initrds. Those of the copy are made after its boot files.
        keep_initrds=plan.copies_root,
    )
    if plan.copies_root:
        before.new_packages(name="Note the new packages")


def _disk(plan: VolumePlan) -> None:
    if plan.kind is Kind.FILE:
        disks.loop_file(
            name=f"File {plan.file}", path=plan.file, size=plan.file_size, device=plan.device
        )
        files.directory(name="Folder of /boot", path=plan.boot_partition)
    else:
        _partitions(plan)
    device = plan.physical_volume
    lvm.physical_volume(name=f"Physical volume {device}", device=device)
    join = lvm.volume_group if plan.copies_root else lvm.extend_volume_group
    join(name=f"Volume group {plan.volgroup}", group=plan.volgroup, devices=[device])


def _partitions(plan: VolumePlan) -> None:
    disks.partition(
        name=f"Partition {plan.device}",
        device=plan.device,
        layout=plan.layout,
        wipe=bool(plan.wipe),
    )
    if plan.efi and plan.efi.new:
        # After a power cut during mkfs.fat the disk may have FAT's signature, but not all of FAT.
        disks.filesystem(
            name="Filesystem of /boot/efi", device=plan.efi.partition, fstype="vfat", anew=True
        )
    if plan.kind is Kind.SPARE:
        disks.filesystem(
            name="Filesystem of /boot", device=plan.boot_partition, fstype="ext4", label="boot"
        )


def _options(target: str, options: tuple[str, ...]) -> None:
    disks.with_options(name=f"fstab entry of {target}", target=target, options=options)


def _mount(row: OwnVolume, group: str) -> None:
    files.directory(name=f"Mount point of {row.name}", path=row.mount)
    disks.fstab_entry(name=f"fstab entry of {row.name}", line=row.fstab(group))
    disks.mounted(name=f"Mount {row.name}", target=row.mount)
