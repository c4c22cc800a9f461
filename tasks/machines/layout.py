"""Partitions and logical volumes on a disk image, without the kernel's device-mapper."""

from __future__ import annotations

import json
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from tasks.machines import shell

SECTOR = 512
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of a disk: its first byte and its length in bytes."""

    offset: int
    size: int


def partition(disk: Path, boot_size: int | None) -> list[Extent]:
    """Write an MBR: one Linux partition, or with ``boot_size`` (bytes) /boot and an LVM one."""
    table = "label: dos\n"
    if boot_size is None:
        table += "start=1MiB, type=83, bootable\n"
    else:
        table += f"start=1MiB, size={boot_size // SECTOR}, type=83, bootable\ntype=8e\n"
    shell.run(["sfdisk", "--quiet", "--wipe=always", disk], input=table)
    parts = json.loads(shell.run(["sfdisk", "--json", disk]).stdout)
    rows = parts["partitiontable"]["partitions"]
    return [Extent(row["start"] * SECTOR, row["size"] * SECTOR) for row in rows]


def make_ext4(device: Path, label: str) -> str:
    """Make an ext4 filesystem; its UUID, chosen here."""
    identity = str(uuid.uuid4())
    shell.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-U", identity, device])
    return identity


def make_volume(device: Path, volgroup: str, name: str, size: int | None) -> Extent:
    """Make ``device`` (a loop device) a VG with one LV; where on the device the LV lies.

    The tools only write metadata: the volume is never activated, so no device-mapper is needed.

    Args:
        device: the loop device of the whole partition.
        volgroup: the VG's name.
        name: the LV's name.
        size: of the LV in bytes; None: all there is.
    """
    with tempfile.TemporaryDirectory(prefix="lvm-") as folder:
        return _make_volume(device, volgroup, name, size, Path(folder))


def _make_volume(device: Path, volgroup: str, name: str, size: int | None, work: Path) -> Extent:
    (work / "lvm.conf").write_text(
        f"""\
global {{ activation=0 locking_dir="{work}/lock" }}
devices {{
    filter=["a|^{device}$|","r|.*|"] use_devicesfile=0
    obtain_device_list_from_udev=0 external_device_info_source="none"
}}
backup {{ backup=0 archive=0 }}
"""
    )

    def lvm(*words: str) -> str:
        return shell.run(["lvm", *words], env={"LVM_SYSTEM_DIR": str(work)}).stdout

    lvm("pvcreate", "-qq", "-y", str(device))
    lvm("vgcreate", "-qq", volgroup, str(device))
    amount = ("-l", "100%FREE") if size is None else ("-L", f"{size}b")
    # -Zn -Wn: nothing to zero or wipe through a device node that will not be there.
    lvm("lvcreate", "-qq", "-y", "-an", "-Zn", "-Wn", "-n", name, *amount, volgroup)
    units = ("--reportformat", "json", "--units", "b", "--nosuffix")
    volume = json.loads(
        lvm("lvs", *units, "-o", "seg_start_pe,seg_pe_ranges,vg_extent_size,lv_size", volgroup)
    )["report"][0]["lv"][0]
    start = json.loads(lvm("pvs", *units, "-o", "pe_start", str(device)))["report"][0]["pv"][0]
    first = int(volume["seg_pe_ranges"].rpartition(":")[2].partition("-")[0])
    offset = int(start["pe_start"]) + first * int(volume["vg_extent_size"])
    return Extent(offset, int(volume["lv_size"]))
