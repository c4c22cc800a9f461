"""A box's way with Debian's Vagrant, as its user goes it, in QEMU, with no network but its own."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.guests.qemu import accelerator
from tests.boot.lab import guestfs, libvirt, traces
from tests.boot.lab.box import CPUS, DEADLINE, command
from tests.namespaces import World

# What Vagrant needs of a box is in test_finalize, what it needs of a package in test_package.
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("vagrant") is None, reason="Vagrant is not installed; bin/inv test installs it"
    ),
]
# A user's own ~/.vagrant.d/Vagrantfile, which comes after the box's and before the project's.
_HOME = """\
Vagrant.configure("2") do |config|
  config.vm.boot_timeout = {deadline}
  config.vm.provider "libvirt" do |libvirt|
    libvirt.machine_type = "q35"
    libvirt.cpus = {cpus}
    libvirt.memory = 1024
    libvirt.serial :type => "file", :source => {{:path => "{serial}"}}
{cpu}
  end
end
"""
_CPU = {
    "kvm": '    libvirt.cpu_mode = "host-passthrough"',
    # Without nested virtualisation: see tasks/guests/qemu/accelerator.py.
    "tcg": """\
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "custom"
    libvirt.cpu_model = "qemu64"
    libvirt.cpu_feature :name => "svm", :policy => "disable\"""",
}
# The status page, as seen on the host.
_PAGE = """\
import urllib.request
with urllib.request.urlopen("http://127.0.0.1:14178/", timeout=60) as page:
    print(page.read().decode())
"""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# A network of libvirt's, through the library that Vagrant speaks to it with.
_NETWORK = """\
require "libvirt"
Libvirt.open("qemu:///system").create_network_xml("<network>
  <name>ours</name><forward mode='nat'/><bridge name='virbr77'/>
  <ip address='192.168.177.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.177.2' end='192.168.177.9'/></dhcp></ip></network>")
"""


@dataclass(frozen=True)
class Vagrant:
    """Vagrant and libvirt in a world of their own; its home and a project are in ``folder``."""

    world: World
    folder: Path

    def __call__(self, *argv: str | Path, programs: Path | None = None) -> str:
        """What a subcommand printed that had exit code 0; it finds those ``programs`` first."""
        home = str(self.folder / "home")
        # it would ask the network for its newest version
        env = {"HOME": home, "VAGRANT_HOME": home, "VAGRANT_CHECKPOINT_DISABLE": "1"}
        if programs:
            env["PATH"] = f"{programs}:{os.environ['PATH']}"
        began = time.monotonic()
        try:
            return self.world.run(
                "vagrant", *argv, cwd=self.folder / "project", env=env, timeout=2 * DEADLINE
            )
        finally:
            print(f"vagrant {argv[0]} took {time.monotonic() - began:.0f} s")

    def add_and_up(self, packages: Path) -> str:
        """What ``up`` printed of a box that was added by its catalog."""
        self("box", "add", "--provider=libvirt", packages / "openkim-pipeline.json")
        return self("up", "--provider=libvirt")

    def ssh(self, command: str) -> list[str]:
        """The words that a command on the box printed."""
        return self("ssh", "-c", command).split()

    def state(self) -> str:
        """The machine's state in Vagrant's words."""
        lines = self("status", "--machine-readable").splitlines()
        return next(line.split(",")[3] for line in lines if ",state," in line)


@pytest.fixture
def packages(built: Path, shared: Path, tmp_path: Path) -> Path:
    """The folder that ``inv box.package`` makes for libvirt."""
    folder = tmp_path / "packages"
    flags = ("--image", str(built), "--out", str(folder), "--format", "libvirt")
    ran = command("inv", "box.package", *flags, state=shared)
    assert ran.code == 0, ran.stderr
    return folder


@pytest.fixture
def vagrant(packages: Path, accel: accelerator.Accelerator, tmp_path: Path) -> Iterator[Vagrant]:
    """Vagrant in a folder with the user's one file; at the end the host must be as it was."""
    home, project, serial = (tmp_path / name for name in ("home", "project", "serial.log"))
    home.mkdir()
    project.mkdir()
    said = _HOME.format(deadline=DEADLINE, cpus=CPUS, serial=serial, cpu=_CPU[accel.name])
    (home / "Vagrantfile").write_text(said)
    shutil.copy(packages / "Vagrantfile", project)
    try:
        with traces.none_left(tmp_path, libvirt.WRITTEN), libvirt.world(tmp_path) as world:
            yield Vagrant(world, tmp_path)
    finally:
        if serial.exists():
            print(serial.read_text(errors="replace")[-4000:])  # pytest shows it when a test fails


def test_what_libvirt_makes_is_not_on_the_host(tmp_path: Path) -> None:
    with traces.none_left(tmp_path, libvirt.WRITTEN), libvirt.world(tmp_path) as world:
        world.run("ruby", "-e", _NETWORK)
        assert "virbr77" in world.run("ip", "link")
        assert "LIBVIRT" in world.run("iptables-save")
        assert world.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
        assert "dnsmasq" in world.run("sh", "-c", "cat /proc/[0-9]*/comm")


def test_a_box_goes_the_whole_way(vagrant: Vagrant, packages: Path) -> None:
    assert "nothing to do" in vagrant.add_and_up(packages)  # runsetup, of no host yet
    assert "fresh" in vagrant.ssh("ls /run/resnap")
    assert "<title>Pipeline box</title>" in vagrant.world.run("python3", "-c", _PAGE)
    vagrant("halt")
    assert vagrant.state() == "shutoff"
    vagrant("destroy", "--force")
    assert vagrant.state() == "not_created"
    vagrant("box", "remove", "openkim/pipeline")


def test_a_box_is_reloaded(vagrant: Vagrant, packages: Path) -> None:
    vagrant.add_and_up(packages)
    [first] = vagrant.ssh(f"cat {_BOOT_ID}")
    vagrant.ssh("sudo touch /junk /persistent/marker")
    vagrant("reload")
    second, *seen = vagrant.ssh(f"cat {_BOOT_ID}; ls / /persistent /run/resnap")
    assert second != first
    assert {"fresh", "marker"} <= set(seen)
    assert "junk" not in seen


def test_a_box_that_was_off_comes_up_again(vagrant: Vagrant, packages: Path) -> None:
    """And lets in after the reset."""
    vagrant.add_and_up(packages)
    vagrant.ssh("sudo touch /junk /persistent/marker")
    vagrant("halt")
    vagrant("up")
    seen = vagrant.ssh("ls / /persistent /run/resnap")
    assert {"fresh", "marker"} <= set(seen)
    assert "junk" not in seen
    assert vagrant.ssh("sudo ./shrink")[:3] == ["/", "reset", "0"]


def test_what_vagrant_packages_is_a_box(vagrant: Vagrant, packages: Path) -> None:
    """With what is in /persistent: a box for others is made by inv box.finalize."""
    vagrant.add_and_up(packages)
    vagrant.ssh("sudo touch /persistent/marker")
    vagrant("halt")
    tools = guestfs.on_path(vagrant.world, guestfs.installed(vagrant.folder), vagrant.folder)
    vagrant("package", "--output", "modified.box", programs=tools)
    assert guestfs.ended(tools) == ["virt-sysprep 0", "virt-sparsify 0"]
    vagrant("destroy", "--force")

    vagrant("box", "add", "--name", "modified", "--provider=libvirt", "modified.box")
    file = vagrant.folder / "project/Vagrantfile"
    file.write_text(file.read_text().replace('"openkim/pipeline"', '"modified"'))
    vagrant("up", "--provider=libvirt")
    assert {"fresh", "marker"} <= set(vagrant.ssh("ls /persistent /run/resnap"))
    vagrant("destroy", "--force")
