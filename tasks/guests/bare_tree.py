"""Turn a Debian root tree into a bare host: network, login, apt and boot loader."""

from __future__ import annotations

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


def install(root: Path, *packages: str) -> None:
    """Install packages in the chroot from its own apt sources, without starting services."""
    resolver, policy = root / "etc/resolv.conf", root / "usr/sbin/policy-rc.d"
    kept = resolver.read_text()
    resolver.write_text(Path("/etc/resolv.conf").read_text())
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        chroot_output(root, "apt-get", "install", "-qq", "--no-install-recommends", *packages)
        chroot_output(root, "apt-get", "clean")
    finally:
        policy.unlink()
        resolver.write_text(kept)


def make_bootable(root: Path, disk: str | None, device: str) -> None:
    """Make the initramfs and GRUB's entries, and install GRUB for BIOS.

    ``disk`` is the node in the chroot's /dev on which GRUB is installed; None: do not install it,
    as for UEFI. ``device`` is where the kernel will find its root: a path, or the UUID of a
    filesystem. grub-probe would only find the loop devices of this build.
    """
    if not device.startswith("/"):
        # grub-mkconfig writes root=UUID= only if the UUID has a link in /dev/disk/by-uuid.
        link = root / "dev/disk/by-uuid" / device
        link.parent.mkdir(parents=True)
        link.symlink_to("../../null")  # the target must exist
        device = "/dev/vda1"
    if (root / "usr/sbin/update-initramfs").exists():
        chroot_output(root, "update-initramfs", "-c", "-k", "all")
    else:
        # without rd.auto, dracut's initrd activates only the volume groups that it is told of
        told = root / "etc/default/grub.d/dracut.cfg"
        told.write_text('GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX rd.auto"\n')
        # the host has other hardware than this machine
        for version in chroot_output(root, "linux-version", "list").split():
            initrd = f"/boot/initrd.img-{version}"
            chroot_output(root, "dracut", "--quiet", "--force", "--no-hostonly", initrd, version)
    if disk is not None:
        modules = "--modules=part_msdos ext2"
        chroot_output(root, "grub-install", "--target=i386-pc", "--force", modules, f"/dev/{disk}")
    # grub-mkconfig reads these files after it has run grub-probe, so this takes precedence.
    override = root / "etc/default/grub.d/zz-image.cfg"
    override.write_text(f'GRUB_DEVICE="{device}"\n')
    chroot_output(root, "update-grub")
    override.unlink()
