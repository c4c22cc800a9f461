"""A Debian tree made a bare host: its network, its login, apt, the boot loader."""

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
    # QEMU's own resolver, at the address it always has on a user network.
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    f"etc/sudoers.d/{USER}": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config.d/bare.conf": "PermitRootLogin no\nUseDNS no\n",
    "etc/default/grub.d/bare.cfg": (
        "GRUB_TIMEOUT=0\n"
        # Debian's own default; a talkative serial line costs an emulated boot a quarter.
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
        # The last console is /dev/console, where the early boot speaks.
        'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0"\n'
        "GRUB_TERMINAL=console\n"
        "GRUB_DISABLE_OS_PROBER=true\n"
    ),
    "etc/dpkg/dpkg.cfg.d/unsafe-io": "force-unsafe-io\n",
}
# Timers that take apt's lock at a moment of their own, and work that only costs time.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_reap.service",
    "grub-common.service",
)


def furnish(root: Path, fstab: Sequence[str], user_key: str, apt_lines: Sequence[str]) -> str:
    """Write the files of a bare host into ``root``, a running chroot; its public SSH host key.

    Args:
        fstab: its lines.
        user_key: the public key that may log in as USER.
        apt_lines: lines for apt.conf.
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
        path.unlink(missing_ok=True)  # it may be a link out of the tree
        path.write_text(content)
    (root / f"etc/sudoers.d/{USER}").chmod(0o440)

    chroot_output(root, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    chroot_output(root, "passwd", "--quiet", "--lock", "root")
    keys = root / f"home/{USER}/.ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700)
    keys.write_text(f"{user_key}\n")
    keys.chmod(0o600)
    chroot_output(root, "chown", "-R", f"{USER}:{USER}", f"/home/{USER}/.ssh")

    # Not a first boot: no presets, no caches to renew.
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for folder in ("etc", "var"):
        (root / folder / ".updated").touch()
    chroot_output(root, "systemctl", "--quiet", "enable", "systemd-networkd.service", "ssh.service")
    chroot_output(root, "systemctl", "--quiet", "mask", *_MASKED)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # One key, of the type ssh asks for first: known_hosts is then exact.
    host_key = "/etc/ssh/ssh_host_ed25519_key"
    chroot_output(root, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bare", "-f", host_key)
    return (root / f"{host_key[1:]}.pub").read_text().strip()


def unpack(tar: Path, root: Path) -> None:
    """Unpack a root tree with its owners and capabilities."""
    argv = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    shell.run([*argv, "-C", root, "-f", tar])


def install(root: Path, *packages: str) -> None:
    """Install packages in the chroot, from its own apt sources; no service starts."""
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

    ``disk`` is where GRUB goes, a node in the chroot's /dev; None: nowhere, as UEFI firmware wants
    it otherwise. ``device`` is what the kernel will find its root on: a path or a filesystem's
    UUID. grub-probe cannot know, as it sees the loop devices of the image's making.
    """
    if not device.startswith("/"):
        # Only a UUID that has its link is written as root=UUID=.
        link = root / "dev/disk/by-uuid" / device
        link.parent.mkdir(parents=True)
        link.symlink_to("../../null")  # whatever exists
        device = "/dev/vda1"
    if (root / "usr/sbin/update-initramfs").exists():
        chroot_output(root, "update-initramfs", "-c", "-k", "all")
    else:
        # dracut's initrd touches no volume group that it is not told of
        told = root / "etc/default/grub.d/dracut.cfg"
        told.write_text('GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX rd.auto"\n')
        # nor is this machine what the host will run on
        for version in chroot_output(root, "linux-version", "list").split():
            initrd = f"/boot/initrd.img-{version}"
            chroot_output(root, "dracut", "--quiet", "--force", "--no-hostonly", initrd, version)
    if disk is not None:
        modules = "--modules=part_msdos ext2"
        chroot_output(root, "grub-install", "--target=i386-pc", "--force", modules, f"/dev/{disk}")
    # grub-mkconfig reads these files after it has asked grub-probe.
    override = root / "etc/default/grub.d/zz-image.cfg"
    override.write_text(f'GRUB_DEVICE="{device}"\n')
    chroot_output(root, "update-grub")
    override.unlink()
