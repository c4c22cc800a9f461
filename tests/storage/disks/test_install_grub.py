"""GRUB comes beside the one that a disk starts from, on real disks; grub-install is a stand-in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.desk.places import ROOT
from tests.storage.commands import run

SCRIPT = ROOT / "static/onbox/usr/lib/resnap/install-grub"
SECTOR = 512
DOS = "label: dos\nstart={first}, size=8MiB\n"
GPT = "label: gpt\nstart=2048, size=2048, type=21686148-6449-6e6f-744e-656564454649\nsize=8MiB\n"
# GRUB's own: it writes what it was told to the place where it always does.
GRUB_INSTALL = """#!/bin/sh
dd if={made}/boot of="$2" bs=440 conv=notrunc status=none
dd if={made}/core of="$2" bs=512 seek={first} conv=notrunc status=none
echo "$2" >>{made}/disks
"""


def boot_sector(core: int, name: bytes = b"GRUB") -> bytes:
    sector = bytearray(440)
    sector[92:100] = core.to_bytes(8, "little")
    sector[384 : 384 + len(name)] = name
    return bytes(sector)


def core(first: int, letter: bytes, sectors: int = 60) -> bytes:
    content = bytearray(letter * SECTOR * sectors)
    content[500:508] = (first + 1).to_bytes(8, "little")
    content[508:510] = (sectors - 1).to_bytes(2, "little")
    return bytes(content)


class Machine:
    """A disk with a GRUB at the sector where grub-install puts it, and the one to come."""

    def __init__(self, disk: str, table: str, first: int, made: Path) -> None:
        run("sh", "-c", f"printf '{table}' | sfdisk --quiet {disk}")
        self.disk, self.first, self.made = Path(disk), first, made
        (made / "boot").write_bytes(boot_sector(first))
        (made / "core").write_bytes(core(first, b"n"))
        self.write(0, boot_sector(first))
        self.write(first, core(first, b"o"))
        (made / "bin").mkdir()
        self.fake("grub-install", GRUB_INSTALL.format(made=made, first=first))
        # the whole machine may have gigabytes to write
        self.fake("sync", "#!/bin/sh\nexit 0\n")
        # what it loads is on this machine's /boot, which is not to be touched
        self.fake("mountpoint", "#!/bin/sh\nexit 0\n")
        self.fake(
            "fsfreeze",
            f'#!/bin/sh\nhead -c 8M {disk} >{made}/frozen.$1; echo "$@" >>{made}/frozen\n',
        )

    def fake(self, name: str, script: str) -> None:
        file = self.made / "bin" / name
        file.write_text(script)
        file.chmod(0o755)

    def write(self, sector: int, content: bytes) -> None:
        with self.disk.open("r+b") as file:
            file.seek(sector * SECTOR)
            file.write(content)

    def read(self, sector: int, size: int) -> bytes:
        with self.disk.open("rb") as file:
            file.seek(sector * SECTOR)
            return file.read(size)

    def install(self) -> None:
        path = f"{self.made}/bin:{os.environ['PATH']}"
        run("env", f"PATH={path}", SCRIPT, self.disk)

    @property
    def disks(self) -> list[str]:
        """What grub-install wrote to."""
        return (self.made / "disks").read_text().split()


@pytest.fixture(params=["dos", "gpt"])
def machine(request: pytest.FixtureRequest, loop_disk: str, tmp_path: Path) -> Machine:
    table, first = {"dos": (DOS.format(first=2048), 1), "gpt": (GPT, 2048)}[request.param]
    made = tmp_path / "made"
    made.mkdir()
    return Machine(loop_disk, table.replace("\n", "\\n"), first, made)


def test_the_old_core_stays_and_the_boot_sector_leads_to_the_new(machine: Machine) -> None:
    table, new = machine.read(0, SECTOR)[440:], machine.first + 60
    machine.install()
    assert machine.read(0, SECTOR) == boot_sector(new) + table
    assert machine.read(new, 60 * SECTOR) == core(new, b"n")
    assert machine.read(machine.first, 60 * SECTOR) == core(machine.first, b"o")
    assert str(machine.disk) not in machine.disks


def test_the_rest_of_grub_is_on_the_disk_before_it_is_started(machine: Machine) -> None:
    before = machine.read(0, 4 * 2**20)
    machine.install()
    assert (machine.made / "frozen").read_text() == "--freeze /boot\n--unfreeze /boot\n"
    with (machine.made / "frozen.--unfreeze").open("rb") as file:
        assert file.read(len(before)) == before


def test_the_next_one_takes_the_place_of_the_first(machine: Machine) -> None:
    machine.write(0, boot_sector(machine.first + 1990))
    machine.write(machine.first + 1990, core(machine.first + 1990, b"o", 50))
    machine.install()
    assert str(machine.disk) not in machine.disks
    assert machine.read(0, 440) == boot_sector(machine.first)
    assert machine.read(machine.first, 60 * SECTOR) == core(machine.first, b"n")
    assert machine.read(machine.first + 1990, 50 * SECTOR) == core(machine.first + 1990, b"o", 50)


@pytest.mark.parametrize("fault", ["another loader", "no room"])
def test_otherwise_grub_install_has_the_disk(machine: Machine, fault: str) -> None:
    if fault == "no room":
        machine.write(machine.first, core(machine.first, b"o", 2000))
    else:
        machine.write(0, boot_sector(machine.first, b"LILO"))
    machine.install()
    assert machine.disks[-1] == str(machine.disk)
    assert machine.read(machine.first, 60 * SECTOR) == core(machine.first, b"n")


def test_nothing_is_left_of_its_work(machine: Machine) -> None:
    machine.install()
    assert not list(Path("/var/tmp").glob("install-grub.*"))
    assert "install-grub" not in run("losetup", "--list")
