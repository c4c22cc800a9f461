"""The table of formats that a box is shipped in: the disk of each, and the files around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from deploys.errors import PreflightError
from deploys.settings import Settings
from tasks.boxes.ship import ovf, tarball, vagrantfile
from tasks.disks import convert


@dataclass(frozen=True, slots=True)
class Disk:
    """A converted disk: its file, the file's SHA-256, and the disk's size in bytes."""

    path: Path
    checksum: str
    size: int


Members = Sequence[tarball.Member]


@dataclass(frozen=True, slots=True)
class Format:
    """One way to ship a box.

    ``disk`` is the name of its disk, which formats may share, and ``write`` makes that disk.
    ``members`` gives the members of its tar archive; None: the disk is shipped as it is.
    ``ending`` ends the name of its file. ``provider`` is Vagrant's name of the hypervisor; empty:
    this is no Vagrant box.
    """

    ending: str
    disk: str
    write: Callable[[convert.Image, Path, tarball.Report], None]
    members: Callable[[Disk, Settings], Members] | None
    provider: str = ""


def stem(settings: Settings) -> str:
    """The beginning of the names of a box's files."""
    return settings.package.name.replace("/", "-")


def _virtualbox(disk: Disk, settings: Settings) -> Members:
    description = _described(disk, settings)
    return (
        *vagrantfile.virtualbox().items(),
        ("box.ovf", description),  # the name Vagrant looks for
        (disk.path.name, disk.path),
    )


def _libvirt(disk: Disk, settings: Settings) -> Members:
    files = vagrantfile.libvirt(disk.size, settings.guest)
    return (*files.items(), (disk.path.name, disk.path))


def _ova(disk: Disk, settings: Settings) -> Members:
    """The description comes first, as the standard demands."""
    name, description = f"{stem(settings)}.ovf", _described(disk, settings)
    manifest = ovf.manifest({name: tarball.content_sum(description), disk.path.name: disk.checksum})
    return ((name, description), (disk.path.name, disk.path), (f"{stem(settings)}.mf", manifest))


def _described(disk: Disk, settings: Settings) -> bytes:
    machine = ovf.Appliance(
        name=stem(settings),
        file=disk.path.name,
        file_size=disk.path.stat().st_size,
        capacity=disk.size,
        memory=settings.guest.memory,
        cpus=settings.guest.cpus,
        mac=vagrantfile.MAC,
        identity=disk.checksum,
    )
    return ovf.describe(machine)


_VMDK = "box-disk001.vmdk"
_QCOW2 = "box.img"  # the name vagrant-libvirt looks for

FORMATS = {
    "virtualbox": Format("virtualbox.box", _VMDK, convert.vmdk, _virtualbox, "virtualbox"),
    "libvirt": Format("libvirt.box", _QCOW2, convert.qcow2, _libvirt, "libvirt"),
    "ova": Format("ova", _VMDK, convert.vmdk, _ova),
    "qcow2": Format("qcow2", _QCOW2, convert.qcow2, None),
}


def select(names: Sequence[str]) -> list[str]:
    """The formats that names mean, in the order of the table; all without a name.

    Raises:
        PreflightError: there is none of that name.
    """
    for name in names:
        if name not in FORMATS:
            [nearest] = get_close_matches(name, FORMATS, n=1, cutoff=0)
            raise PreflightError(f"there is no format {name!r}; did you mean {nearest!r}?")
    return [name for name in FORMATS if name in names or not names]
