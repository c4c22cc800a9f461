"""libvirt's daemons in namespaces of their own, so that they leave nothing behind on the host.

libvirtd makes bridges, firewall chains and folders, sets ip_forward, and leaves all of it. Here it
has its own network, process table and system folders; see tests/namespaces.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests import namespaces
from tests.namespaces import World

# The folders to which libvirt writes; the paths are compiled in.
WRITTEN = ("/etc", "/var/cache", "/var/lib", "/var/log")
_FOLDERS = ("/etc/libvirt", "/run/libvirt", "/var/log/libvirt/qemu")
_IMAGES = "/var/lib/libvirt/images"
# QEMU runs as our user, without security drivers and cgroups, which would need the host's.
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
    """Start libvirt's daemons in a new world; disks are written to ``folder``."""
    with namespaces.world() as made:
        _furnish(made, folder)
        made.run("virtlogd", "-d")
        made.run("libvirtd", "-d")
        yield made


def _furnish(world: World, folder: Path) -> None:
    """Set up system folders that can be written, a configuration, and an empty network."""
    own, images = folder / "own", folder / "images"
    for each in (own, images):
        each.mkdir(parents=True)
    world.run("mount", "-t", "sysfs", "sysfs", "/sys")  # shows the network links of the namespace
    world.run("mount", "-t", "tmpfs", "tmpfs", "/run")
    world.run("mount", "-t", "tmpfs", "tmpfs", own)
    for lower in WRITTEN:
        upper, work = f"{own}{lower}", f"{own}/work{lower}"
        world.run("mkdir", "-p", upper, work)
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        world.run("mount", "-t", "overlay", "overlay", "-o", layers, lower)
    # Hide the networks and guests of the host's libvirt, if it has one.
    world.run("rm", "-rf", *(f"{lower}/libvirt" for lower in WRITTEN))
    world.run("mkdir", "-p", *_FOLDERS, _IMAGES)
    world.run("mount", "--bind", images, _IMAGES)  # disks are too big for a tmpfs
    for name, text in (("qemu.conf", _QEMU_CONF), ("libvirtd.conf", _LIBVIRTD_CONF)):
        (folder / name).write_text(text)
        world.run("cp", folder / name, f"/etc/libvirt/{name}")
    # Debian's libvirtd starts only if this user exists.
    if "\nlibvirt-qemu:" not in world.run("getent", "passwd"):
        world.run("useradd", "--system", "--user-group", "libvirt-qemu")
    world.run("ip", "link", "set", "lo", "up")
