"""Turn a Debian root tree into a bare host: network, login, apt and boot loader."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from tasks.debian.chroot import chroot_output
from tasks.desk import shell

USER = "vagrant"

_FILES = {
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 bare\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/hostname": "bare\n",
    "etc/systemd/network/80-dhcp.network": (
        "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n"
    ),
    # QEMU's resolver has this address on every user network.
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    f"etc/sudoers.d/{USER}": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config.d/bare.conf": "PermitRootLogin no\nUseDNS no\n",
    "etc/default/grub.d/bare.cfg": (
        "GRUB_TIMEOUT=0\n"
        # Debian's default; kernel messages on a serial line slow an emulated boot by a quarter.
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
        # The last one is /dev/console, to which the early boot writes.
        'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0"\n'
        "GRUB_TERMINAL=console\n"
        "GRUB_DISABLE_OS_PROBER=true\n"
    ),
    "etc/dpkg/dpkg.cfg.d/unsafe-io": "force-unsafe-io\n",
}
# Timers that take apt's lock at any moment, and services that only cost time.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_reap.service",
    "grub-common.service",
)


def furnish(root: Path, fstab: Sequence[str], user_key: str, apt_lines: Sequence[str]) -> str:
    """Write the files of a bare host into the chroot ``root``; returns its public SSH host key.

    Args:
        fstab: the lines of /etc/fstab.
        user_key: the public SSH key of USER.
        apt_lines: lines of apt.conf.
    """
    files = {
        **_FILES,
        "etc/fstab": "".join(f"{line}\n" for line in fstab),
        "etc/apt/apt.conf.d/90bare": "".join(
            f"{line}\n" for line in (*apt_lines, 'Acquire::Languages "none";')
        ),
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link that leads out of the tree
        path.write_text(content)
    (root / f"etc/sudoers.d/{USER}").chmod(0o440)

    chroot_output(root, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    chroot_output(root, "passwd", "--quiet", "--lock", "root")
    keys = root / f"home/{USER}/.ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700)
    keys.write_text(f"{user_key}\n")
    keys.chmod(0o600)
    chroot_output(root, "chown", "-R", f"{USER}:{USER}", f"/home/{USER}/.ssh")

    # The host's first start is not a "first boot" for systemd: no presets, no caches to renew.
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for folder in ("etc", "var"):
        (root / folder / ".updated").touch()
    chroot_output(root, "systemctl", "--quiet", "enable", "systemd-networkd.service", "ssh.service")
    chroot_output(root, "systemctl", "--quiet", "mask", *_MASKED)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # Only one key, of the type that ssh prefers, so that known_hosts has all keys.
    host_key = "/etc/ssh/ssh_host_ed25519_key"
    chroot_output(root, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bare", "-f", host_key)
    return (root / f"{host_key[1:]}.pub").read_text().strip()


def unpack(tar: Path, root: Path) -> None:
    """Unpack a root tree, with owners and capabilities."""
    argv = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    shell.run([*argv, "-C", root, "-f", tar])


def install_grub(root: Path, disk: Path) -> None:
    """Install GRUB for BIOS on a disk, whose node is in the chroot's /dev."""
    argv = ("grub-install", "--target=i386-pc", "--force", "--modules=part_msdos ext2")
    chroot_output(root, *argv, f"/dev/{disk.name}")


def write_menu_by_uuid(root: Path, identity: str) -> None:
    """Write GRUB's menu, with the root on the filesystem of this UUID."""
    # grub-mkconfig writes root=UUID= only if the UUID has a link in /dev/disk/by-uuid.
    link = root / "dev/disk/by-uuid" / identity
    link.parent.mkdir(parents=True)
    link.symlink_to("../../null")  # the target must exist
    write_menu(root, "/dev/vda1")


def write_menu(root: Path, device: str) -> None:
    """Write GRUB's menu, with the root on this device of the guest.

    grub-probe would only find the loop devices of this build.
    """
    # grub-mkconfig reads these files after it has run grub-probe, so this takes precedence.
    override = root / "etc/default/grub.d/zz-image.cfg"
    override.write_text(f'GRUB_DEVICE="{device}"\n')
    chroot_output(root, "update-grub")
    override.unlink()


def copy_kernel(root: Path, kernel: Path) -> None:
    """Copy the tree's Linux image to the file ``kernel``."""
    shutil.copy(next((root / "boot").glob("vmlinuz-*")), kernel)
