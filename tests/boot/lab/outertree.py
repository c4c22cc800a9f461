"""The tree of an outer guest: a system of Debian's unstable with VirtualBox, its modules and QEMU.

It is made natively, VirtualBox's kernel modules by dkms too, and kept in .box/outer until unstable
changes: a tree is named by a hash of the archive's signed indexes and of what is installed. The
emulator of the outer guest is run out of the same tree, as an older one lets VirtualBox go astray.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from filelock import FileLock

from tasks.debian import archive, bootstrap
from tasks.debian.chroot import chroot_output
from tasks.desk.places import ROOT, STATE

_SUITE = "sid"
_PACKAGES = (
    "ca-certificates",
    "dbus",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-headers-amd64",
    "linux-image-amd64",
    "openssh-server",
    "procps",
    "sudo",
    "systemd-sysv",
    "udev",
    "virtualbox",
    "virtualbox-dkms",
)
_FOLDER = STATE / "outer"
_FILES = {
    "etc/hostname": "outer\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 outer\n",
    # on a busy machine udev takes longer than systemd's 90 s to show a disk
    "etc/fstab": (
        "/dev/vda / ext4 defaults 0 1\n"
        "/dev/vdb /work ext4 defaults,x-systemd.device-timeout=900 0 2\n"
    ),
    "etc/systemd/network/80-dhcp.network": "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",  # QEMU's resolver
    # what is carried in has the keys
    "etc/ssh/sshd_config.d/outer.conf": (
        "HostKey /work/ssh/host\nAuthorizedKeysFile /work/ssh/user.pub\nUseDNS no\n"
    ),
    # The kernel's command line says the rest of what VirtualBox needs.
    "etc/modules-load.d/virtualbox.conf": "vboxdrv\nvboxnetflt\nvboxnetadp\n",
}
# Timers that take the processor from what is tested.
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer", "e2scrub_all.timer")
# A change of how the tree is made, without one of its packages or files, needs a change of this.
_RECIPE = "1"


def made(work: Path) -> Path:
    """The tree of unstable's packages of today, made if there is none; ``work`` is for scratch."""
    with FileLock(STATE / "outer.lock"):
        # unstable has neither updates nor security besides
        [line] = (each for each in bootstrap.sources(_SUITE) if f" {_SUITE} " in each)
        packages = tuple(sorted({*_PACKAGES, *_of_project()}))
        index = archive._release(line, work / "InRelease")
        said = (_RECIPE, index, packages, _FILES, _MASKED)
        root = _FOLDER / hashlib.sha256(repr(said).encode()).hexdigest()[:16]
        if not root.exists():
            if _FOLDER.exists():
                shutil.rmtree(_FOLDER)  # older ones are of no use
            partial = _FOLDER / "partial"
            partial.mkdir(parents=True)
            options = (*bootstrap.relaxations(), 'APT::Install-Recommends "false";')
            tree = bootstrap.Tree(_SUITE, packages, (f"{line} contrib",), options)
            bootstrap.fill_folder(partial, tree, work)
            _furnish(partial)
            partial.rename(root)
    return root


def _of_project() -> list[str]:
    """What bin/inv would install."""
    lines = (ROOT / "bin/packages").read_text().splitlines()
    return [line.split()[0] for line in lines if line and not line.startswith("#")]


def _furnish(root: Path) -> None:
    for name, text in _FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)
    (root / "work").mkdir()
    (root / "etc/machine-id").write_text(f"{'0' * 31}1\n")
    chroot_output(root, "systemctl", "--quiet", "enable", "systemd-networkd.service", "ssh.service")
    chroot_output(root, "systemctl", "--quiet", "mask", *_MASKED)
    [kernel] = chroot_output(root, "linux-version", "list").split()
    assert any((root / f"lib/modules/{kernel}/updates/dkms").glob("vboxdrv.ko*")), (
        root / "var/lib/dkms"
    )
    # not only what this machine needs: the outer guest has other hardware
    chroot_output(root, "update-initramfs", "-c", "-k", kernel)
