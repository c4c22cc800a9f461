"""Make and find logical volumes on a disk image, without the kernel's device-mapper.

LVM only reads and writes metadata: no volume is activated.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import BoxError
from tasks.desk import loop, shell
from tasks.disks import lvm_metadata
from tasks.disks.identifiers import Fixed
from tasks.disks.partitions import Extent

Lvm = Callable[..., str]
_REPORT = ("--reportformat", "json", "--units", "b", "--nosuffix")


@dataclass(frozen=True, slots=True)
class Volume:
    """An LV to make; ``size`` is in bytes."""

    name: str
    size: int
    tags: tuple[str, ...] = ()


def make(
    disk: Path, part: Extent, volgroup: str, volumes: Sequence[Volume], fixed: Fixed
) -> dict[str, Extent]:
    """Make a VG with these LVs in a part of a disk image; returns where on the disk each LV is.

    Raises:
        CommandError: there is no room for them, or LVM failed.
    """
    with _lvm(disk, part) as (lvm, device):
        known = ("--uuid", fixed.identifiers.lvm("pv"), "--norestorefile")
        lvm("pvcreate", "-qq", "-y", *known, device)
        lvm("vgcreate", "-qq", volgroup, device)
        for volume in volumes:
            tags = [word for tag in volume.tags for word in ("--addtag", tag)]
            # -Zn -Wn: zeroing and wiping need device nodes, which do not exist here.
            words = ("-qq", "-y", "-an", "-Zn", "-Wn", "-n", volume.name, *tags)
            lvm("lvcreate", *words, "-L", f"{volume.size}b", volgroup)
    lvm_metadata.normalize(disk, part.offset, fixed)
    return find(disk, part, volgroup)


def find(disk: Path, part: Extent, volgroup: str) -> dict[str, Extent]:
    """Find where on a disk image each LV of a VG is.

    Raises:
        CommandError: there is no such VG.
        BoxError: an LV is a snapshot or has more than one piece.
    """
    columns = "lv_name,segtype,seg_pe_ranges,vg_extent_size,lv_size,origin"
    with _lvm(disk, part) as (lvm, device):
        rows = json.loads(lvm("lvs", *_REPORT, "-o", columns, volgroup))["report"][0]["lv"]
        [pv] = json.loads(lvm("pvs", *_REPORT, "-o", "pe_start", device))["report"][0]["pv"]
    found: dict[str, Extent] = {}
    for row in rows:
        name = row["lv_name"]
        if row["segtype"] != "linear" or row["origin"] or name in found:
            raise BoxError(f"the volume {name} of {disk} is not one plain piece")
        first = int(row["seg_pe_ranges"].rpartition(":")[2].partition("-")[0])
        offset = part.offset + int(pv["pe_start"]) + first * int(row["vg_extent_size"])
        found[name] = Extent(offset, int(row["lv_size"]))
    return found


def unused(part: Extent, lvs: Mapping[str, Extent]) -> Iterator[Extent]:
    """The parts of a PV after its first LV that no LV uses; ``lvs`` must be all LVs on it."""
    end = None
    for extent in sorted(lvs.values(), key=lambda extent: extent.offset):
        if end is not None and extent.offset > end:
            yield Extent(end, extent.offset - end)
        end = extent.offset + extent.size
    if end is not None and end < part.offset + part.size:
        yield Extent(end, part.offset + part.size - end)


@contextmanager
def _lvm(disk: Path, part: Extent) -> Iterator[tuple[Lvm, str]]:
    """Yield a function that runs lvm on this part of the disk alone, and its loop device."""
    with (
        loop.attached(disk, offset=part.offset, size=part.size) as device,
        tempfile.TemporaryDirectory(prefix="lvm-") as folder,
    ):
        (Path(folder) / "lvm.conf").write_text(
            f"""\
global {{ activation=0 locking_dir="{folder}/lock" }}
devices {{
    filter=["a|^{device}$|","r|.*|"] use_devicesfile=0
    obtain_device_list_from_udev=0 external_device_info_source="none"
}}
backup {{ backup=0 archive=0 }}
"""
        )

        def lvm(*words: str) -> str:
            return shell.run(["lvm", *words], env={"LVM_SYSTEM_DIR": folder}).stdout

        yield lvm, str(device)
