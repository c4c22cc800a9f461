"""A host as people have them becomes a box and stays one; no part of it was made for a box.

A volume group with each character that LVM takes, a /home of its own, a swap file, a static address
by ifupdown, cloud-init, another host name, and a user with fish who gives sudo his password in
German. The tests are one walk, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fabric
import pytest
from rich.progress import Progress

from deploys.facts.mapper import mapper_path
from tasks.desk.flags import load
from tasks.desk.progress import HostProgress
from tasks.guests import bare
from tasks.hosts.connection import Host
from tasks.hosts.provision import Provision, Request
from tests.boot.conftest import GIB, INSTALLED, Start
from tests.boot.lab.box import LEAN, Box, status
from tests.boot.lab.recipes import Recipe

pytestmark = pytest.mark.long

GROUP = "vg.0+a_b-c"
NAME = "grown"
PASSWORD = "ein Wort"
NETWORK = """auto lo
iface lo inet loopback
auto {link}
iface {link} inet static
    address 10.0.2.15/24
    gateway 10.0.2.2
"""
USER_DATA = """#cloud-config
preserve_hostname: true
ssh_deletekeys: false
write_files:
- path: /etc/of-cloud-init
"""
GROWN = f"""set -e
lvcreate --yes --quiet --size 256M --name home {GROUP}
mkfs.ext4 -q /dev/{GROUP}/home
cp -a /home /tmp/home
echo "/dev/{GROUP}/home /home ext4 defaults 0 2" >>/etc/fstab
mount /home
cp -a /tmp/home/. /home
fallocate --length 64M /swapfile
chmod 600 /swapfile
mkswap --quiet /swapfile
echo "/swapfile none swap sw 0 0" >>/etc/fstab
swapon /swapfile
link=$(ip -o -4 route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')
printf '{NETWORK.replace("{link}", "%s")}' "$link" "$link" >/etc/network/interfaces
systemctl disable --quiet systemd-networkd.service systemd-networkd.socket
systemctl enable --quiet networking
mkdir -p /var/lib/cloud/seed/nocloud
echo "instance-id: one" >/var/lib/cloud/seed/nocloud/meta-data
cat >/var/lib/cloud/seed/nocloud/user-data <<'END'
{USER_DATA}END
echo "network: {{config: disabled}}" >/etc/cloud/cloud.cfg.d/99-network.cfg
hostnamectl set-hostname {NAME}
sed -i 's/127.0.1.1.*/127.0.1.1 {NAME}/' /etc/hosts
localedef -i de_DE -f UTF-8 de_DE.UTF-8
echo LANG=de_DE.UTF-8 >/etc/default/locale
useradd --create-home --shell /usr/bin/fish ada
cp -r /home/vagrant/.ssh /home/ada/
chown -R ada: /home/ada
echo "ada ALL=(ALL) ALL" >/etc/sudoers.d/ada
echo 'ada:{PASSWORD}' | chpasswd
"""


@pytest.fixture(scope="module")
def box(shared: Path, start: Start) -> Iterator[Box]:
    """The host, after the boot that its changes need."""
    extra = (*INSTALLED, "ifupdown", "cloud-init", "fish", "locales", "login")
    recipe = Recipe("lvm", disk_size=12 * GIB, volgroup=GROUP, extra=extra)
    with start(bare.build(recipe, shared)) as host:
        host.succeed(GROWN)
        assert host.reboot().verdict is None
        host.succeed("cloud-init status --wait")
        yield host


@pytest.fixture(scope="module")
def ada(box: Box) -> Iterator[Host]:
    """The host by its own user."""
    login = box.guest.login
    connection = fabric.Connection(
        login.host,
        user="ada",
        port=login.port,
        config=fabric.Config(overrides={"sudo": {"password": PASSWORD}}),
        connect_kwargs={"key_filename": str(login.key), "look_for_keys": False},
    )
    host = Host(connection, login.known_hosts)
    yield host
    host.close()


def test_the_host_is_what_it_is_to_be(box: Box) -> None:
    box.succeed("test -e /etc/of-cloud-init")
    box.succeed("systemctl is-active networking")
    box.fail("systemctl is-active systemd-networkd")
    said = box.succeed("su ada -c 'LC_ALL=de_DE.UTF-8 sudo -nv' 2>&1 || :")
    assert "sudo: Ein Passwort ist notwendig" in said
    holds(box)


def holds(box: Box) -> None:
    """What the host had, it has."""
    assert box.succeed("hostname").strip() == NAME
    assert box.succeed("findmnt -no SOURCE /home").strip() == mapper_path(GROUP, "home")
    assert "/swapfile" in box.succeed("swapon --noheadings --show=NAME").split()
    assert "dynamic" not in box.succeed("ip -4 address show scope global")
    assert box.succeed("getent passwd ada").strip().endswith("/usr/bin/fish")


def test_it_becomes_a_box_and_keeps_what_it_had(box: Box, ada: Host) -> None:
    progress = HostProgress("box", Progress(disable=True))
    provision = Provision(ada, load(overrides=LEAN), Request(), progress)
    assert ("keep", "/home", f"{mapper_path(GROUP, 'home')}, never reset") in provision.plan()
    assert provision.run().changed
    assert (box.verdict.name, box.state.initrd_matches) == ("fresh", True)
    root = box.succeed("findmnt --noheadings --output SOURCE /").strip()
    assert root == mapper_path(GROUP, "root_snap")
    holds(box)


def test_a_reset_takes_back_the_root_and_nothing_else(box: Box) -> None:
    box.succeed("touch /etc/of-this-snapshot /home/ada/stays; hostnamectl set-hostname other")
    box.reboot()
    box.fail("test -e /etc/of-this-snapshot")
    box.succeed("test -e /home/ada/stays")
    assert box.verdict.name == "fresh"
    holds(box)


def test_status_is_green_and_nothing_is_left_to_change(box: Box, ada: Host, tmp_path: Path) -> None:
    (tmp_path / "guest").symlink_to(box.guest.directory)
    assert status(tmp_path)["faults"] == []
    progress = HostProgress("box", Progress(disable=True))
    assert not Provision(ada, load(overrides=LEAN), Request(), progress).run().changed
