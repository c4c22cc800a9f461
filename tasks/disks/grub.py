"""GRUB on the disk of a box or of a bare host, from the packages in its own tree."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.debian.chroot import chroot_output
from tasks.desk import loop

# What finds /boot on a disk of ours; the rest is loaded from there.
_BIOS_MODULES = "part_gpt ext2"
# Firmware's UEFI image is all there is: what grub.cfg uses must be in it.
_UEFI_MODULES = (
    *("part_gpt", "part_msdos", "ext2", "fat", "search", "search_fs_uuid", "search_label"),
    *("normal", "configfile", "linux", "boot", "loadenv", "test", "echo", "true", "sleep"),
    *("ls", "cat", "minicmd", "help", "halt", "reboot", "all_video", "gfxterm", "efi_gop"),
    *("terminal", "serial", "regexp", "keystatus", "chain", "probe", "bli", "efifwsetup"),
)
_MODULES = "usr/lib/grub/x86_64-efi"
# Debian's installer puts these on every machine that it starts by UEFI.
SIGNED = ("efibootmgr", "grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed")
UEFI_PATH = "EFI/BOOT/BOOTX64.EFI"
"""Where firmware looks on a disk of which it was told nothing (UEFI specification, 3.5.1.1)."""


def install_bios(root: Path, disk: Path, epoch: int) -> None:
    """Install GRUB for BIOS on a disk image, to read the /boot that is mounted in a chroot.

    grub-probe sees /boot on a loop device of its own, so GRUB looks for its filesystem's UUID.

    Args:
        root: the chroot.
        disk: the image, partitioned.
        epoch: the time, in seconds since 1970.
    """
    with loop.attached(disk) as whole, loop.visible(root, whole, "image-disk") as node:
        argv = ("grub-install", "--target=i386-pc", "--force", f"--modules={_BIOS_MODULES}", node)
        chroot_output(root, *argv, epoch=epoch)


def uefi_image(root: Path, boot_uuid: str, epoch: int) -> Path:
    """Make GRUB's image for UEFI, which reads the /boot with this UUID; its path, in the chroot.

    Not by grub-install, which wants the FAT filesystem mounted: not every kernel can.
    """
    settings = root / "run/uefi.cfg"
    settings.write_text(f"search.fs_uuid {boot_uuid} root\nset prefix=($root)/grub\n")
    made = root / "run/uefi.efi"
    argv = ["grub-mkimage", "--format=x86_64-efi", "--prefix=/grub", "--config=/run/uefi.cfg"]
    chroot_output(root, *argv, "--output=/run/uefi.efi", *_UEFI_MODULES, epoch=epoch)
    return made


def signed_chain(root: Path, boot_uuid: str, prefix: str) -> dict[str, Path]:
    """What Debian has on an EFI system partition, by the path there: shim, GRUB, its settings.

    Signed, so that it starts with Secure Boot too. GRUB's modules are put in ``/boot`` as
    grub-install does, which would want the FAT filesystem mounted: not every kernel can.

    Args:
        root: the chroot.
        boot_uuid: of the filesystem that holds ``/boot/grub``.
        prefix: the path of that folder there.
    """
    shutil.copytree(root / _MODULES, root / "boot/grub/x86_64-efi", dirs_exist_ok=True)
    settings = root / "run/esp.cfg"
    settings.write_text(
        f"search.fs_uuid {boot_uuid} root\nset prefix=($root)'{prefix}'\n"
        "configfile $prefix/grub.cfg\n"
    )
    shim = root / "usr/lib/shim/shimx64.efi.signed"
    signed = root / f"{_MODULES}-signed/grubx64.efi.signed"
    return {
        UEFI_PATH: shim,
        "EFI/BOOT/grubx64.efi": signed,
        "EFI/debian/shimx64.efi": shim,
        "EFI/debian/grubx64.efi": signed,
        "EFI/debian/grub.cfg": settings,
    }
