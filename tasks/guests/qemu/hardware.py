"""A guest's hardware, and QEMU's command line for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deploys.settings import STATUS_PORT
from tasks.guests.qemu import accelerator

HOST = "127.0.0.1"
MIB = 2**20
_CREDENTIALS = "opt/io.systemd.credentials"
_HOT_PORTS = 4  # free PCIe ports: on q35's root bus no disk can be plugged in while it runs


class Machine(BaseModel):
    """A guest's hardware; ``disks`` are qcow2 files, in order /dev/vda, /dev/vdb, ...

    ``memory`` is in bytes. ``cache`` is QEMU's mode: with ``unsafe`` the guest's flushes cost
    nothing, but flushed data may be lost when QEMU is killed, so do not use it for a guest whose
    power is cut and that must boot again. ``firmware`` is a file that replaces QEMU's BIOS.
    ``nvram`` is a file of this guest in which UEFI firmware keeps its boot entries, a copy of the
    template that comes with the firmware. ``credentials`` maps names to files for systemd in the
    guest, see systemd.system-credentials(7). ``arguments`` are further words for QEMU.
    """

    model_config = ConfigDict(frozen=True)

    name: str = "box"
    disks: tuple[Path, ...]
    memory: int = 2048 * MIB
    cpus: int = 2
    cache: Literal["writeback", "none", "writethrough", "unsafe"] = "writeback"
    firmware: Path | None = None
    nvram: Path | None = None
    credentials: dict[str, Path] = Field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def argv(
    directory: Path, machine: Machine, accel: accelerator.Accelerator, port: int, page: int = 0
) -> list[str]:
    """QEMU's command line; it must run in the guest's folder.

    ``port`` on this host is forwarded to the guest's port 22, ``page`` to its status page. 0 lets
    QEMU choose a free port.
    """
    words = [accelerator.QEMU, "-name", machine.name, "-nodefaults", "-display", "none"]
    words += ["-machine", "q35,vmport=off", *accel.argv()]
    words += _firmware(machine)
    words += ["-smp", str(machine.cpus), "-m", f"{machine.memory // MIB}M"]
    words += ["-daemonize", "-pidfile", str(directory / "pid")]
    words += ["-qmp", "unix:qmp.sock,server=on,wait=off"]
    words += ["-chardev", "file,id=serial,path=serial.log,append=on", "-serial", "chardev:serial"]
    forwarded = ((port, 22), (page, STATUS_PORT))
    rules = [f"hostfwd=tcp:{HOST}:{here}-:{there}" for here, there in forwarded]
    words += ["-netdev", ",".join(("user,id=net", *rules))]
    words += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
    for number, disk in enumerate(machine.disks):
        node = f"disk{number}"
        words += ["-drive", f"id={node},if=none," + _drive(disk, machine.cache)]
        words += ["-device", f"virtio-blk-pci,drive={node},id={node}-device"]
    for name, path in machine.credentials.items():
        words += ["-fw_cfg", f"name={_CREDENTIALS}/{name},file={_escaped(path)}"]
    for number in range(_HOT_PORTS):
        words += ["-device", f"pcie-root-port,id=hot{number},chassis={number + 1}"]
    return [*words, *machine.arguments]


def _firmware(machine: Machine) -> list[str]:
    if machine.firmware is None:
        return []
    if machine.nvram is None:
        return ["-bios", str(machine.firmware)]
    flash = "if=pflash,format=raw,unit={},readonly={},file={}"
    code = flash.format(0, "on", _escaped(machine.firmware))
    return ["-drive", code, "-drive", flash.format(1, "off", _escaped(machine.nvram))]


def _drive(disk: Path, cache: str) -> str:
    return f"file={_escaped(disk)},format=qcow2,cache={cache},discard=unmap,detect-zeroes=unmap"


def _escaped(file: Path) -> str:
    """A file in an option of QEMU, in which a comma is written twice."""
    return str(file.resolve()).replace(",", ",,")
