"""A box in a real VirtualBox, and the way with KVM: in an outer guest, as its user goes it.

Emulation below emulation: with a core for itself the whole file takes 50 minutes. On a busy machine
run it with a higher priority: a box that is starved mounts its volumes too late, and is red.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.lab import outer, outertree
from tests.boot.lab.box import command, flags
from tests.boot.lab.outer import PROJECT, Outer

pytestmark = pytest.mark.long

_SETTINGS = (
    "image.disk_size=10G",
    "volumes.persistent_size=256M",
    "volumes.swap_size=64M",
    "stack=none",
    # A boot takes four minutes in VirtualBox here, and more on a busy machine.
    "boot.reboot_deadline=3600",
)
# Two processors end in a triple fault, which is the emulation's fault.
_FLAGS = " ".join(flags((*_SETTINGS, "guest.cpus=1", "guest.memory=1G")))
# Prints the text that follows it to the first serial port, when that is ready, and halts.
_BOOT_SECTOR = bytes.fromhex(
    "fc 31c0 8ed8 be227c"  # ds:si is the text
    "ac 84c0 7412 88c4"  # the next character, until one is 0
    "bafd03 ec a820 74fb"  # wait until the port takes one
    "88e0 baf803 ee ebe9"
    "f4 ebfd"
)
_TEXT = "the ground holds"
# How VirtualBox keeps time. By itself it interrupts a machine that is behind 16384 times a second,
# in which an emulated one does little else: a box then came up after 14 minutes, else after 5.
_TIME = {"TSCMode": "RealTSCOffset", "HostHzMax": "200"}
# With which a packaged box lets in.
_VAGRANT_KEY = Path("/usr/share/rubygems-integration/all/gems/vagrant-2.3.4/keys/vagrant")


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the outer guest has as /work: the project, a box's image and its package, made here."""
    if not _VAGRANT_KEY.exists():
        pytest.skip("Vagrant is not installed; bin/inv test installs it")
    folder = tmp_path_factory.mktemp("carried")
    root = outertree.made(tmp_path_factory.mktemp("scratch"))
    state = outer.carry(folder, root) / ".box"
    for words in (("box.build",), ("box.package", "--format", "virtualbox")):
        ran = command("inv", *words, *flags(_SETTINGS), state=state)
        assert ran.code == 0, ran.stderr
    [package] = (state / "packages").glob("*virtualbox*.box")
    with tarfile.open(package) as box:
        box.extractall(folder / "package", filter="data")
    shutil.copy(_VAGRANT_KEY, folder / "ssh/vagrant")
    (folder / "ssh/vagrant").chmod(0o600)
    (folder / "sector.raw").write_bytes(_sector())
    return folder


@pytest.fixture(scope="module")
def guest(carried: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outer]:
    """A running outer guest whose VirtualBox is ready."""
    root = outertree.made(tmp_path_factory.mktemp("scratch"))
    time = (carried / "project/.box/box.raw").stat().st_mtime_ns
    with outer.running(tmp_path_factory.mktemp("outer"), root, carried) as running:
        # the note beside an image has its time, of which mke2fs takes the seconds only
        stamp = f"@{time // 10**9}.{time % 10**9:09}"
        running.succeed(f"touch -d {stamp} {PROJECT}/.box/box.raw")
        running.succeed("timeout 300 sh -c 'until test -e /dev/vboxdrv; do sleep 1; done'")
        for key, value in _TIME.items():
            running.succeed(f"VBoxManage setextradata global VBoxInternal/TM/{key} {value}")
        yield running


def test_virtualbox_runs_a_boot_sector(guest: Outer) -> None:
    """If not, the outer guest is broken, not the product."""
    disk = "/work/sector.vdi"
    guest.succeed(f"VBoxManage convertfromraw /work/sector.raw {disk}")
    serial = _machine(guest, "sector", disk)
    guest.succeed("VBoxManage startvm sector --type headless")
    guest.succeed(_until(f"grep -q '{_TEXT}' {serial}"))
    guest.succeed("VBoxManage controlvm sector poweroff")
    _remove(guest, "sector")


def test_a_box_goes_the_whole_way(guest: Outer) -> None:
    assert "verdict     fresh" in guest.inv(f"up --provider virtualbox {_FLAGS}")
    first = _status(guest)
    guest.inv("ssh --command 'sudo touch /junk /persistent/marker'")
    assert "fresh" in guest.inv("resnap")
    second = _status(guest)
    assert second["boot_id"] != first["boot_id"]
    seen = guest.inv("ssh --command 'ls / /persistent'").split()
    assert "marker" in seen
    assert "junk" not in seen
    assert "trimmed" in guest.inv("shrink")
    guest.inv("halt")
    assert "off" in guest.inv("halt")
    guest.inv("destroy --force")
    assert guest.succeed("VBoxManage list vms") == ""
    guest.succeed(f"! test -e {PROJECT}/.box/guest")


def test_a_packaged_box_is_imported(guest: Outer) -> None:
    """Its login is that of Vagrant."""
    guest.succeed("VBoxManage import /work/package/box.ovf --vsys 0 --vmname packaged")
    port = "--natpf1 ssh,tcp,127.0.0.1,2222,,22"
    guest.succeed(f"VBoxManage modifyvm packaged --cpus 1 {port}")
    guest.succeed("VBoxManage startvm packaged --type headless")
    ssh = (
        "ssh -i /work/ssh/vagrant -p 2222 -o StrictHostKeyChecking=no -o ConnectTimeout=30"
        " -o UserKnownHostsFile=/work/ssh/known_hosts vagrant@127.0.0.1"
    )
    guest.succeed(_until(f"{ssh} true"), 3700)
    assert "fresh" in guest.succeed(f"{ssh} ls /run/resnap").split()
    guest.succeed("VBoxManage controlvm packaged acpipowerbutton")
    guest.succeed(_until("! VBoxManage list runningvms | grep -q packaged"))
    _remove(guest, "packaged")


def test_kvm_runs_a_box(guest: Outer) -> None:
    assert "verdict     fresh" in guest.inv(f"up {_FLAGS}")
    chosen = json.loads(guest.succeed(f"cat {PROJECT}/.box/accelerator.json"))
    assert chosen["name"] == "kvm", chosen["reason"]
    _status(guest)
    assert "fresh" in guest.inv("resnap")
    guest.inv("destroy --force")


def _sector() -> bytes:
    """A disk of 1 MiB that starts with the boot sector."""
    sector = (_BOOT_SECTOR + _TEXT.encode()).ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(2**20, b"\0")


def _machine(guest: Outer, name: str, disk: str) -> str:
    """Make a machine in VirtualBox; the file of its serial port."""
    serial = f"/work/{name}.log"
    for words in (
        f"createvm --name {name} --ostype Other_64 --register",
        f"modifyvm {name} --memory 64 --cpus 1 --ioapic on",
        f"modifyvm {name} --uart1 0x3f8 4 --uartmode1 file {serial}",
        f"storagectl {name} --name SATA --add sata --portcount 1",
        f"storageattach {name} --storagectl SATA --port 0 --type hdd --medium {disk}",
    ):
        guest.succeed(f"VBoxManage {words}")
    return serial


def _remove(guest: Outer, name: str) -> None:
    """Remove a machine; VirtualBox refuses for a moment after a power-off."""
    guest.succeed(_until(f"VBoxManage unregistervm {name} --delete"))


def _until(condition: str) -> str:
    """A command that waits for a condition."""
    return f"timeout 3600 sh -c {shlex.quote(f'until {condition}; do sleep 5; done')}"


def _status(guest: Outer) -> dict[str, object]:
    """What ``inv status`` says of the local guest, whose root must be fresh."""
    [values] = json.loads(guest.inv("status --json")).values()
    assert isinstance(values, dict)
    assert values["verdict"]["name"] == "fresh"
    assert values["faults"] == []
    return values
