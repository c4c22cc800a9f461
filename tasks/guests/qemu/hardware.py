"""A guest's hardware, and the QEMU command line that makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deploys.settings import STATUS_PORT
from tasks.guests.qemu import accelerator

HOST = "127.0.0.1"
MIB = 2**20
_CREDENTIALS = "opt/io.systemd.credentials"
_HOT_PORTS = 4  # PCIe ports kept free: q35's root bus takes no disk while it runs


class Kernel(BaseModel):
    """A kernel that QEMU itself boots, with its initrd and its command line; no disk is read."""

    model_config = ConfigDict(frozen=True)

    image: Path
    initrd: Path
    arguments: str


class Machine(BaseModel):
    """A guest's hardware, as asked for; disks are qcow2 files, in order /dev/vda, /dev/vdb, ...

    ``memory`` in bytes. ``cache`` is QEMU's word: ``unsafe`` makes the guest's flushes free, but
    what was flushed can be lost when QEMU is killed: not for a guest whose power is cut and that
    must boot again.
    ``firmware`` is a file that takes the place of QEMU's own BIOS. ``nvram`` is what that firmware
    keeps across boots, a file of this guest alone, made from a template that comes with it: by
    this a machine started by UEFI has boot entries. ``credentials`` are files that systemd in the
    guest finds by these names; see systemd.system-credentials(7). An ``incoming``
    guest does not boot: it waits, each time it is started, for the state of one like it.
    """

    model_config = ConfigDict(frozen=True)

    name: str = "box"
    disks: tuple[Path, ...]
    kernel: Kernel | None = None
    memory: int = 2048 * MIB
    cpus: int = 2
    cache: Literal["writeback", "none", "writethrough", "unsafe"] = "writeback"
    firmware: Path | None = None
    nvram: Path | None = None
    credentials: dict[str, Path] = Field(default_factory=dict)
    incoming: bool = False


def argv(
    directory: Path, machine: Machine, accel: accelerator.Accelerator, port: int, page: int = 0
) -> list[str]:
    """QEMU's command line, to be started in the guest's own folder.

    ``port`` on this host leads to the guest's port 22, ``page`` to that of its status page; 0 lets
    QEMU take a free one.
    """
    words = [accelerator.QEMU, "-name", machine.name, "-nodefaults", "-display", "none"]
    words += ["-machine", "q35,vmport=off", *accel.argv()]
    words += _firmware(machine)
    words += ["-smp", str(machine.cpus), "-m", f"{machine.memory // MIB}M"]
    words += [
        "-daemonize",
        "-pidfile",
        str(directory / "pid"),
        "-qmp",
        "unix:qmp.sock,server=on,wait=off",
    ]
    words += ["-chardev", "file,id=serial,path=serial.log,append=on", "-serial", "chardev:serial"]
    forwarded = ((port, 22), (page, STATUS_PORT))
    rules = [f"hostfwd=tcp:{HOST}:{here}-:{there}" for here, there in forwarded]
    words += ["-netdev", ",".join(("user,id=net", *rules))]
    words += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
    for number, disk in enumerate(machine.disks):
        node = f"disk{number}"
        words += ["-drive", f"id={node},if=none," + _drive(disk, machine.cache)]
        words += ["-device", f"virtio-blk-pci,drive={node},id={node}-device"]
    if machine.kernel is not None:
        words += ["-kernel", str(machine.kernel.image), "-initrd", str(machine.kernel.initrd)]
        words += ["-append", machine.kernel.arguments]
    for name, path in machine.credentials.items():
        words += ["-fw_cfg", f"name={_CREDENTIALS}/{name},file={_escaped(path)}"]
    for number in range(_HOT_PORTS):
        words += ["-device", f"pcie-root-port,id=hot{number},chassis={number + 1}"]
    words += ["-incoming", "defer"] if machine.incoming else []
    return words


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
    """A file as a part of QEMU's option, which a comma would end; doubled it is one."""
    return str(file.resolve()).replace(",", ",,")
