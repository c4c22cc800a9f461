"""Volume groups, their logical and physical volumes, read by one start of ``lvm``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra.api.facts import FactBase

from deploys.facts.mapper import mapper_path

# Each section with the fields read from it; the segment sections cannot be left out of a full
# report, so they are cut to a name.
_FIELDS = {
    "vg": "vg_name,vg_size,vg_free,vg_extent_size",
    "pv": "pv_name,vg_name,pv_size,pv_free",
    "lv": "lv_name,vg_name,lv_size,origin,lv_layout,lv_tags",
    "pvseg": "pv_name",
    "seg": "lv_name",
}
_EXCEPTION = 16  # bytes of dm-snapshot's table for one chunk


@dataclass(frozen=True)
class PhysicalVolume:
    """One PV; ``vg`` is empty when no group has it. Sizes in bytes."""

    device: str
    vg: str
    size: int
    free: int


@dataclass(frozen=True)
class LogicalVolume:
    """One LV. ``origin`` is empty unless it is a snapshot. Sizes in bytes.

    ``layout`` is lvs(8)'s lv_layout, as ``linear`` or ``thin,sparse``.
    """

    name: str
    vg: str
    size: int
    origin: str = ""
    layout: str = "linear"
    tags: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return mapper_path(self.vg, self.name)


@dataclass(frozen=True)
class VolumeGroup:
    """One VG with its volumes. Sizes in bytes."""

    name: str
    size: int
    free: int
    extent_size: int
    pvs: tuple[PhysicalVolume, ...] = ()
    lvs: tuple[LogicalVolume, ...] = ()

    def lv(self, name: str) -> LogicalVolume | None:
        return next((lv for lv in self.lvs if lv.name == name), None)


@dataclass(frozen=True)
class LvmReport:
    """All of a host's LVM; empty where LVM is not installed."""

    groups: tuple[VolumeGroup, ...] = ()
    orphans: tuple[PhysicalVolume, ...] = ()

    def group(self, name: str) -> VolumeGroup | None:
        return next((group for group in self.groups if group.name == name), None)

    def pv(self, device: str) -> PhysicalVolume | None:
        grouped = (pv for group in self.groups for pv in group.pvs)
        return next((pv for pv in (*grouped, *self.orphans) if pv.device == device), None)

    def lv_at(self, path: str) -> LogicalVolume | None:
        """The LV whose ``/dev/mapper`` path this is."""
        lvs = (lv for group in self.groups for lv in group.lvs)
        return next((lv for lv in lvs if lv.path == path), None)


class Lvm(FactBase[LvmReport]):
    """The host's LVM as one ``LvmReport``.

    One ``lvm fullreport``, not pvs, vgs and lvs: each start of lvm costs half a second in an
    emulated guest.
    """

    def requires_command(self) -> str:
        return "lvm"

    def command(self) -> str:
        sections = " ".join(f"--configreport {name} -o {of}" for name, of in _FIELDS.items())
        return f"lvm fullreport --reportformat json --units b --nosuffix {sections}"

    @staticmethod
    def default() -> LvmReport:
        return LvmReport()

    def process(self, output: list[str]) -> LvmReport:
        reports = json.loads("\n".join(output))["report"]
        orphans = tuple(
            pv for report in reports if not report.get("vg") for pv in map(_pv, report["pv"])
        )
        groups = tuple(_group(report) for report in reports if report.get("vg"))
        return LvmReport(groups, orphans)


def _group(report: Mapping[str, Any]) -> VolumeGroup:
    [vg] = report["vg"]
    return VolumeGroup(
        name=vg["vg_name"],
        size=int(vg["vg_size"]),
        free=int(vg["vg_free"]),
        extent_size=int(vg["vg_extent_size"]),
        pvs=tuple(map(_pv, report.get("pv", ()))),
        lvs=tuple(map(_lv, report.get("lv", ()))),
    )


def _pv(row: Mapping[str, str]) -> PhysicalVolume:
    return PhysicalVolume(row["pv_name"], row["vg_name"], int(row["pv_size"]), int(row["pv_free"]))


def _lv(row: Mapping[str, str]) -> LogicalVolume:
    return LogicalVolume(
        name=row["lv_name"],
        vg=row["vg_name"],
        size=int(row["lv_size"]),
        origin=row["origin"],
        layout=row["lv_layout"],
        tags=tuple(row["lv_tags"].split(",")) if row["lv_tags"] else (),
    )


VERSION_TAG = "golden"
"""The LVM tag of a version: a safety snapshot that stays (static/onbox/usr/lib/resnap/versions)."""


def cow_size(origin: int, chunk: int, extent: int) -> int:
    """Bytes of a snapshot that cannot fill: the origin's, its exception tables, whole extents.

    dm-snapshot's layout: a header chunk, then areas of one table chunk and the chunks it lists.
    """
    data = -(-origin // chunk)
    tables = data // (chunk // _EXCEPTION) + 1  # the last one closes the list, so is never full
    return -(-(1 + tables + data) * chunk // extent) * extent
