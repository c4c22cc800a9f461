"""What VirtualBox makes of the packages."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from deploys.settings import Settings
from tasks.boxes.ship import Packaging
from tasks.desk.progress import HostProgress, bars
from tests.storage.boxes.small_disk import small_disk
from tests.storage.boxes.virtualbox import VirtualBox, installed
from tests.storage.commands import run

# As the machine is described beyond what every hypervisor reads, in VBoxManage's words.
WANTED = {
    "ostype": "Debian (64-bit)",
    "memory": "2048",
    "cpus": "2",
    "graphicscontroller": "vmsvga",
    "nic1": "nat",
    "nictype1": "virtio",
    "storagecontrollertype0": "IntelAhci",
    "SATA-nonrotational-0-0": "on",
    "audio": "none",
    "uart1": "off",
    "rtcuseutc": "on",
}


@pytest.fixture(scope="module")
def virtualbox(tmp_path_factory: pytest.TempPathFactory) -> VirtualBox:
    if os.geteuid() != 0:
        pytest.skip("VirtualBox is unpacked into a root of its own, as root")
    return installed(tmp_path_factory.mktemp("virtualbox"))


def settings_of(machine: str) -> dict[str, str]:
    """What ``showvminfo --machinereadable`` said."""
    pairs = (line.partition("=") for line in machine.splitlines())
    return {key.strip('"'): value.strip('"') for key, _, value in pairs}


@pytest.mark.long
def test_virtualbox_imports_what_was_packaged(virtualbox: VirtualBox, tmp_path: Path) -> None:
    """The OVA and the Vagrant box; the machine has what was said, its disk the same bytes."""
    disk = small_disk(tmp_path / "box.raw")
    progress = {name: HostProgress(name, bars()) for name in ("virtualbox", "ova")}
    made = Packaging(disk, tmp_path / "out", Settings(), progress).run()
    shutil.copy(made["ova"], virtualbox.work / "box.ova")
    with tarfile.open(made["virtualbox"]) as box:
        box.extractall(virtualbox.work / "box")
    virtualbox.run("vbox setproperty machinefolder /work/machines")
    for name, file in (("ova", "box.ova"), ("vagrant", "box/box.ovf")):
        virtualbox.run(f"vbox import /work/{file} --vsys 0 --vmname {name}")
        shown = settings_of(virtualbox.run(f"vbox showvminfo {name} --machinereadable"))
        assert {key: shown[key] for key in WANTED} == WANTED
        assert '"true"' in _discards(virtualbox.work / "machines" / name / f"{name}.vbox")
        imported = f"/work/machines/{name}/box-disk001.vmdk"
        virtualbox.run(f"vbox clonemedium disk {imported} /work/{name}.raw --format RAW")
        assert "identical" in run(
            "qemu-img", "compare", "-f", "raw", "-F", "raw", disk, virtualbox.work / f"{name}.raw"
        )


def _discards(machine: Path) -> str:
    [line] = (each for each in machine.read_text().splitlines() if "<AttachedDevice" in each)
    return line.partition("discard=")[2][:6]
