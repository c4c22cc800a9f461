"""A guest's hardware, and QEMU's command line for it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from deploys.settings import STATUS_PORT
from tasks.guests.qemu import accelerator

HOST = "127.0.0.1"
MIB = 2**20
_CREDENTIALS = "opt/io.systemd.credentials"
_HOT_PORTS = 4  # free PCIe ports: on q35's root bus no disk can be plugged in while it runs


class Machine(BaseModel):
    """A guest's hardware; ``disks`` are qcow2 files, in order /dev/vda, /dev/vdb, ...

    ``memory`` is in bytes. ``credentials`` maps names to files for systemd in the guest, see
    systemd.system-credentials(7). ``arguments`` are further words for QEMU, which come last.
    """

    model_config = ConfigDict(frozen=True)

    disks: tuple[Path, ...]
    memory: int = 2048 * MIB
    cpus: int = 2
    credentials: dict[str, Path] = Field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def argv(
    directory: Path, machine: Machine, accel: accelerator.Accelerator, port: int, page: int = 0
) -> list[str]:
    """QEMU's command line; it must run in the guest's folder.

    ``port`` on this host is forwarded to the guest's port 22, ``page`` to its status page. 0 lets
    QEMU choose a free port.
    """
    words = [accelerator.QEMU, "-nodefaults", "-display", "none"]
    words += ["-machine", "q35,vmport=off", *accel.argv()]
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
        words += ["-drive", f"id={node},if=none," + _drive(disk)]
        words += ["-device", f"virtio-blk-pci,drive={node},id={node}-device"]
    for name, path in machine.credentials.items():
        words += ["-fw_cfg", f"name={_CREDENTIALS}/{name},file={_escaped(path)}"]
    for number in range(_HOT_PORTS):
        words += ["-device", f"pcie-root-port,id=hot{number},chassis={number + 1}"]
    return [*words, *machine.arguments]


def _drive(disk: Path) -> str:
    return f"file={_escaped(disk)},format=qcow2,discard=unmap,detect-zeroes=unmap"


def _escaped(file: Path) -> str:
    """A file in an option of QEMU, in which a comma is written twice."""
    return str(file.resolve()).replace(",", ",,")
