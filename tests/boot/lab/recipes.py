"""Bare hosts that only tests need: on LVM, started by UEFI, with dracut, with further packages."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploys.facts.mapper import mapper_path
from deploys.operations.disks import EFI_SYSTEM, LINUX, LINUX_LVM, Partition
from tasks.debian import bootstrap
from tasks.debian.chroot import chroot_output
from tasks.desk import loop, shell
from tasks.disks import filesystems, grub, partitions, volume_group
from tasks.disks.identifiers import Fixed, Identifiers
from tasks.disks.partitions import MIB, Extent
from tasks.guests import bare, bare_tree

GIB = 2**30
# Packages of a host with its root on LVM, as Debian's installer leaves a server.
SERVER = ("lvm2", "zstd", "python3", "ca-certificates", "git")
# Debian's installer installs these on each machine that starts by UEFI; they replace BIOS's GRUB.
_SIGNED = ("efibootmgr", "grub-efi-amd64", "grub-efi-amd64-signed", "shim-signed")
_GRUB_MODULES = "usr/lib/grub/x86_64-efi"
_VOLGROUP = "debian-vg"
_BOOT_SIZE, _ESP_SIZE = 512 * MIB, 64 * MIB
_EXTENT = 4 * MIB  # LVM's default; as much is lost before the first
# What a host or a box does whose initrds are made while it is emulated: with the modules for all
# machines each is a minute's work.
FEW_MODULES = """
echo MODULES=list >/etc/initramfs-tools/conf.d/few
printf '%s\n' virtio_pci virtio_blk ext4 crc32c_generic >/etc/initramfs-tools/modules
"""

# What hosts gather over the years: a copy of a kernel, a swap that is gone, an sshd on one address.
GATHERED = """
cp "/boot/vmlinuz-$(uname -r)" "/boot/vmlinuz-$(uname -r).old"
echo RESUME=UUID=a2b6e0c4-0000-4000-8000-000000000000 >/etc/initramfs-tools/conf.d/resume
echo ListenAddress 10.0.2.15 >/etc/ssh/sshd_config.d/address.conf
# DHCP gives the address when sshd is there already.
echo net.ipv4.ip_nonlocal_bind=1 >/etc/sysctl.d/address.conf
systemctl restart ssh
systemctl unmask apt-daily.timer apt-daily-upgrade.timer
"""
# A password for GRUB's menu.
PASSWORD = """
printf '#!/bin/sh\\necho "set superusers=admin; password admin secret"\\n' >/etc/grub.d/01_password
chmod 0755 /etc/grub.d/01_password
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The layout and the packages of a bare host's disk, see ``bare.Recipe``.

    ``plain`` has one root and LVM is not installed; ``lvm`` has a /boot partition and a volume
    group ``volgroup`` with the LV ``root`` of ``root_size`` bytes (None: all). ``filesystem`` is
    the root's. With ``firmware``
    uefi, an EFI system partition with Debian's signed boot loader comes first, mounted at
    /boot/efi. ``extra`` are further packages; with dracut, it makes the initrds.
    """

    kind: Literal["plain", "lvm"] = "plain"
    firmware: Literal["bios", "uefi"] = "bios"
    suite: str = bootstrap.SUITE
    disk_size: int = 8 * GIB
    volgroup: str = _VOLGROUP
    root_size: int | None = 3 * GIB
    filesystem: Literal["ext4", "xfs"] = "ext4"
    extra: tuple[str, ...] = ()

    def write(
        self, disk: Path, kernel: Path, given: bare.Materials, progress: bare.Progress
    ) -> str:
        """See ``bare.Recipe``."""
        is_lvm, is_uefi = self.kind == "lvm", self.firmware == "uefi"
        fixed = Fixed(Identifiers(uuid.uuid4().hex), int(time.time()))
        with disk.open("wb") as file:
            file.truncate(self.disk_size)
        boot_size = _BOOT_SIZE if is_lvm else None
        table = _gpt(boot_size, fixed.identifiers) if is_uefi else mbr(boot_size)
        parts = partitions.partition(disk, table)
        esp = parts.pop(0) if is_uefi else None
        last = _root_volume(disk, parts[-1], self, fixed) if is_lvm else parts[-1]
        with ExitStack() as stack:
            work = stack.enter_context(loop.temporary_folder(disk.parent))
            whole = stack.enter_context(loop.attached(disk))
            device = stack.enter_context(loop.attached(disk, offset=last.offset, size=last.size))
            make = partitions.make_ext4 if self.filesystem == "ext4" else _make_xfs
            identity = boot_uuid = make(device, "root")
            root = stack.enter_context(loop.mounted(device, work))
            nodes = [whole, device]
            name = mapper_path(self.volgroup, "root") if is_lvm else f"UUID={identity}"
            options = "errors=remount-ro" if self.filesystem == "ext4" else "defaults"
            fstab = [f"{name} / {self.filesystem} {options} 0 1"]
            if is_lvm:
                (root / "boot").mkdir()
                first = parts[0]
                boot = stack.enter_context(
                    loop.attached(disk, offset=first.offset, size=first.size)
                )
                boot_uuid = partitions.make_ext4(boot, "boot")
                fstab.append(f"UUID={boot_uuid} /boot ext4 defaults 0 2")
                stack.enter_context(loop.mounted(boot, root / "boot"))
                nodes.append(boot)
            if is_uefi:
                serial = fixed.identifiers.serial("esp").upper()
                fstab.append(f"UUID={serial[:4]}-{serial[4:]} /boot/efi vfat umask=0077 0 1")
            bare_tree.unpack(given.tree, root)
            stack.enter_context(loop.chroot(root, {each.name: each for each in nodes}))
            host_key = bare_tree.furnish(root, fstab, given.user_key, given.apt_lines)
            packages = ((*_SIGNED,) if is_uefi else ()) + (SERVER if is_lvm else ()) + self.extra
            if packages:
                progress(f"installing {packages[0]}")
                _install(root, packages)
            progress("making it bootable")
            _make_initrds(root, self.filesystem)
            if esp is None:
                bare_tree.install_grub(root, whole)
            if is_lvm:
                bare_tree.write_menu(root, name)
            else:
                bare_tree.write_menu_by_uuid(root, identity)
            if esp is not None:
                (root / "boot/efi").mkdir()
                chain = _signed_chain(root, boot_uuid, "/grub" if is_lvm else "/boot/grub")
                filesystems.write_esp(disk, esp, chain, fixed)
            bare_tree.copy_kernel(root, kernel)
        return host_key


def _make_xfs(device: Path, label: str) -> str:
    identity = str(uuid.uuid4())
    shell.run(["mkfs.xfs", "-q", "-f", "-L", label, "-m", f"uuid={identity}", device])
    return identity


def mbr(boot_size: int | None) -> str:
    """An MBR with one Linux partition, or, with ``boot_size`` in bytes, /boot and one for LVM."""
    if boot_size is None:
        return "label: dos\nstart=1MiB, type=83, bootable\n"
    boot = f"start=1MiB, size={boot_size // partitions.SECTOR}, type=83, bootable\n"
    return f"label: dos\n{boot}type=8e\n"


def _gpt(boot_size: int | None, identifiers: Identifiers) -> str:
    """A GPT with an EFI system partition and then the partitions of :func:`mbr`."""
    parts = [Partition("esp", EFI_SYSTEM, _ESP_SIZE)]
    parts += [] if boot_size is None else [Partition("boot", LINUX, boot_size)]
    parts.append(Partition("root", LINUX if boot_size is None else LINUX_LVM))
    return partitions.gpt(parts, identifiers)


def _root_volume(disk: Path, part: Extent, recipe: Recipe, fixed: Fixed) -> Extent:
    """Make the volume group with its one LV; returns where that is."""
    all_extents = part.size // _EXTENT * _EXTENT - _EXTENT
    size = all_extents if recipe.root_size is None else recipe.root_size
    wanted = [volume_group.Volume("root", size)]
    return volume_group.make(disk, part, recipe.volgroup, wanted, fixed)["root"]


def _install(root: Path, packages: Sequence[str]) -> None:
    """Install packages in the chroot from its own apt sources, without starting services."""
    resolver, policy = root / "etc/resolv.conf", root / "usr/sbin/policy-rc.d"
    of_guest = resolver.read_text()
    resolver.write_text(Path("/etc/resolv.conf").read_text())
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        chroot_output(root, "apt-get", "install", "-qq", "--no-install-recommends", *packages)
        chroot_output(root, "apt-get", "clean")
    finally:
        policy.unlink()
        resolver.write_text(of_guest)


def _make_initrds(root: Path, filesystem: str) -> None:
    """Make them with initramfs-tools, or with dracut where that took its place."""
    if (root / "usr/sbin/update-initramfs").exists():
        its_own = f"echo {filesystem} >>/etc/initramfs-tools/modules"
        chroot_output(root, "sh", "-ec", f"{FEW_MODULES}{its_own}")
        chroot_output(root, "update-initramfs", "-c", "-k", "all")
        return
    # without rd.auto, dracut's initrd activates only the volume groups that it is told of
    arguments = root / "etc/default/grub.d/dracut.cfg"
    arguments.write_text('GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX rd.auto"\n')
    # the host has other hardware than this machine
    for version in chroot_output(root, "linux-version", "list").split():
        initrd = f"/boot/initrd.img-{version}"
        chroot_output(root, "dracut", "--quiet", "--force", "--no-hostonly", initrd, version)


def _signed_chain(root: Path, boot_uuid: str, prefix: str) -> dict[str, Path]:
    """The files of Debian's EFI system partition (shim, GRUB, GRUB's settings) by their paths.

    They are signed, so that Secure Boot starts them. GRUB's modules are copied to ``/boot``, as
    grub-install does; that would need the FAT filesystem mounted, and not every kernel can.

    Args:
        root: the chroot.
        boot_uuid: of the filesystem that holds ``/boot/grub``.
        prefix: the path of that folder on the filesystem.
    """
    shutil.copytree(root / _GRUB_MODULES, root / "boot/grub/x86_64-efi", dirs_exist_ok=True)
    settings = root / "run/esp.cfg"
    settings.write_text(
        f"search.fs_uuid {boot_uuid} root\nset prefix=($root)'{prefix}'\n"
        "configfile $prefix/grub.cfg\n"
    )
    shim = root / "usr/lib/shim/shimx64.efi.signed"
    signed = root / f"{_GRUB_MODULES}-signed/grubx64.efi.signed"
    return {
        grub.UEFI_PATH: shim,
        "EFI/BOOT/grubx64.efi": signed,
        "EFI/debian/shimx64.efi": shim,
        "EFI/debian/grubx64.efi": signed,
        "EFI/debian/grub.cfg": settings,
    }
