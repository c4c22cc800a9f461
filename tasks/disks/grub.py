"""Install GRUB on a disk image, from the packages in the root tree itself."""

from __future__ import annotations

from pathlib import Path

from tasks.debian.chroot import chroot_output
from tasks.desk import loop

# Enough to find /boot on a box's disk; GRUB loads its other modules from there.
_BIOS_MODULES = "part_gpt ext2"
# The UEFI image loads no modules, so all that grub.cfg uses must be in it.
_UEFI_MODULES = (
    *("part_gpt", "part_msdos", "ext2", "fat", "search", "search_fs_uuid", "search_label"),
    *("normal", "configfile", "linux", "boot", "loadenv", "test", "echo", "true", "sleep"),
    *("ls", "cat", "minicmd", "help", "halt", "reboot", "all_video", "gfxterm", "efi_gop"),
    *("terminal", "serial", "regexp", "keystatus", "chain", "probe", "bli", "efifwsetup"),
)
UEFI_PATH = "EFI/BOOT/BOOTX64.EFI"
"""The removable path: firmware without a boot entry starts this (UEFI specification, 3.5.1.1)."""


def install_bios(root: Path, disk: Path, epoch: int) -> None:
    """Install GRUB for BIOS on a disk image, with the /boot that is mounted in a chroot.

    /boot is on another loop device than the disk, so GRUB finds it by its filesystem's UUID.

    Args:
        root: the chroot.
        disk: the image, which has partitions already.
        epoch: the time, in seconds since 1970.
    """
    with loop.attached(disk) as whole, loop.visible(root, whole, "image-disk") as node:
        argv = ("grub-install", "--target=i386-pc", "--force", f"--modules={_BIOS_MODULES}", node)
        chroot_output(root, *argv, epoch=epoch)


def uefi_image(root: Path, boot_uuid: str, epoch: int) -> Path:
    """Make GRUB's image for UEFI, which reads the /boot with this UUID; returns the image's path.

    grub-install would need the FAT filesystem mounted, and not every kernel can mount it.
    """
    settings = root / "run/uefi.cfg"
    settings.write_text(f"search.fs_uuid {boot_uuid} root\nset prefix=($root)/grub\n")
    made = root / "run/uefi.efi"
    argv = ["grub-mkimage", "--format=x86_64-efi", "--prefix=/grub", "--config=/run/uefi.cfg"]
    chroot_output(root, *argv, "--output=/run/uefi.efi", *_UEFI_MODULES, epoch=epoch)
    return made
