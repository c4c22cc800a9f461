"""libvirt's daemons in a world of their own: what they leave behind goes with them.

libvirtd makes bridges, firewall chains and folders, sets ip_forward, and leaves all of it. Here
it has a network, a process table and system folders of its own; see tests/namespaces.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests import namespaces
from tests.namespaces import World

# Where libvirt writes, at paths that are compiled in. The host may have none of them.
WRITTEN = ("/etc", "/var/cache", "/var/lib", "/var/log")
_FOLDERS = ("/etc/libvirt", "/run/libvirt", "/var/log/libvirt/qemu")
_IMAGES = "/var/lib/libvirt/images"
# QEMU as the user that we are, with nothing that needs the host's consent.
_QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
"""
_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
"""


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """libvirt's daemons, at work in a world of their own; disks are written below ``folder``."""
    with namespaces.world() as made:
        _furnish(made, folder)
        made.run("virtlogd", "-d")
        made.run("libvirtd", "-d")
        yield made


def _furnish(world: World, folder: Path) -> None:
    """System folders to write to, a configuration, a network with nobody in it."""
    own, images = folder / "own", folder / "images"
    for each in (own, images):
        each.mkdir(parents=True)
    world.run("mount", "-t", "sysfs", "sysfs", "/sys")  # shows the links of its own network
    world.run("mount", "-t", "tmpfs", "tmpfs", "/run")
    world.run("mount", "-t", "tmpfs", "tmpfs", own)
    for lower in WRITTEN:
        upper, work = f"{own}{lower}", f"{own}/work{lower}"
        world.run("mkdir", "-p", upper, work)
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        world.run("mount", "-t", "overlay", "overlay", "-o", layers, lower)
    # The host's networks and guests, if it has libvirt, are none of this world's.
    world.run("rm", "-rf", *(f"{lower}/libvirt" for lower in WRITTEN))
    world.run("mkdir", "-p", *_FOLDERS, _IMAGES)
    world.run("mount", "--bind", images, _IMAGES)  # a disk is too big for the memory
    for name, text in (("qemu.conf", _QEMU_CONF), ("libvirtd.conf", _LIBVIRTD_CONF)):
        (folder / name).write_text(text)
        world.run("cp", folder / name, f"/etc/libvirt/{name}")
    # Debian's libvirtd starts only where there is this user, whoever runs QEMU.
    if "\nlibvirt-qemu:" not in world.run("getent", "passwd"):
        world.run("useradd", "--system", "--user-group", "libvirt-qemu")
    world.run("ip", "link", "set", "lo", "up")
