"""Facts about LVM: volume groups with their physical and logical volumes, and what it looks at."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api.facts import FactBase

from deploys.facts.mapper import mapper_path

# The fields that are read from each section. A full report always has the segment sections; one
# field keeps them short.
_FIELDS = {
    "vg": "vg_name,vg_size,vg_free,vg_extent_size",
    "pv": "pv_name,vg_name,pv_size,pv_free",
    "lv": "lv_name,vg_name,lv_size,origin,lv_layout,lv_tags",
    "pvseg": "pv_name",
    "seg": "lv_name",
}
MISSING = "[unknown]"
"""The name of a PV that a VG has and that LVM does not see."""
_FILTERS = ("filter", "global_filter")
_IN_USE = "devices file"
_EXCEPTION = 16  # bytes of dm-snapshot's table for one chunk


@dataclass(frozen=True)
class PhysicalVolume:
    """One PV. ``vg`` is empty if it is in no group. Sizes are in bytes."""

    device: str
    vg: str
    size: int
    free: int


@dataclass(frozen=True)
class LogicalVolume:
    """One LV. ``size`` is in bytes. ``origin`` is empty unless the LV is a snapshot.

    ``layout`` is the lv_layout of lvs(8), as ``linear`` or ``thin,sparse``.
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
    """One VG with its volumes. Sizes are in bytes."""

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
    """All VGs of a host, and the PVs that are in none. Empty if LVM is not installed."""

    groups: tuple[VolumeGroup, ...] = ()
    orphans: tuple[PhysicalVolume, ...] = ()

    def group(self, name: str) -> VolumeGroup | None:
        return next((group for group in self.groups if group.name == name), None)

    def pv(self, device: str) -> PhysicalVolume | None:
        grouped = (pv for group in self.groups for pv in group.pvs)
        return next((pv for pv in (*grouped, *self.orphans) if pv.device == device), None)

    def lv_at(self, path: str) -> LogicalVolume | None:
        """The LV with this ``/dev/mapper`` path."""
        lvs = (lv for group in self.groups for lv in group.lvs)
        return next((lv for lv in lvs if lv.path == path), None)


class Lvm(FactBase[LvmReport]):
    """The :class:`LvmReport` of a host.

    One ``lvm fullreport`` reads it, not pvs, vgs and lvs, as each start of lvm takes half a second
    in an emulated guest.
    """

    default = LvmReport

    def requires_command(self) -> str:
        return "lvm"

    def command(self) -> str:
        sections = " ".join(f"--configreport {name} -o {of}" for name, of in _FIELDS.items())
        return f"lvm fullreport --reportformat json --units b --nosuffix {sections}"

    def process(self, output: list[str]) -> LvmReport:
        reports = json.loads("\n".join(output))["report"]
        orphans = tuple(
            pv for report in reports if not report.get("vg") for pv in map(_pv, report["pv"])
        )
        groups = tuple(_group(report) for report in reports if report.get("vg"))
        return LvmReport(groups, orphans)


@dataclass(frozen=True)
class LvmConfig:
    """Which devices LVM looks at: the patterns of its filters, by the names of these settings.

    A pattern is ``a`` or ``r``, a delimiter, a regular expression, the delimiter; see lvm.conf.
    """

    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def hides(self, names: Collection[str]) -> str:
        """The filter that hides a device; ``names`` are its paths. Empty if none does."""
        return next((of for of, each in self.filters.items() if _rejects(each, names)), "")


def _rejects(patterns: Sequence[str], names: Collection[str]) -> bool:
    """Whether no name is accepted, and one is rejected: for each, its first pattern counts."""
    verdicts = [
        next((each[0] for each in patterns if re.search(each[2:-1], name)), "") for name in names
    ]
    return "r" in verdicts and "a" not in verdicts


class LvmConfigured(FactBase[LvmConfig]):
    """The :class:`LvmConfig` of a host."""

    default = LvmConfig

    def requires_command(self) -> str:
        return "lvmconfig"

    def command(self) -> str:
        ask = "lvmconfig --type full 2>/dev/null"
        filters = " ".join(f"devices/{name}" for name in _FILTERS)
        # With a devices file LVM does not heed the first filter. New PVs are added to the file.
        return (
            f"{ask} {filters}; "
            f'eval "$({ask} devices/use_devicesfile devices/devicesfile)"; '
            '[ "${use_devicesfile:-0}" = 0 ] || '
            '[ ! -e "${LVM_SYSTEM_DIR:-/etc/lvm}/devices/$devicesfile" ] || '
            f"echo {_IN_USE}"
        )

    def process(self, output: list[str]) -> LvmConfig:
        filters = {}
        for line in output:
            name, _, value = line.partition("=")
            if name in _FILTERS:
                found = json.loads(value)
                filters[name] = [found] if isinstance(found, str) else found
        if _IN_USE in output:
            filters.pop(_FILTERS[0], None)
        return LvmConfig(filters)


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
"""The LVM tag of a safety snapshot that is kept as a version.

static/onbox/usr/lib/resnap/versions sets it.
"""

BEFORE_TAG = "resnap.before"
"""The LVM tag of the snapshot of a root as it was before the host became a box."""


def cow_size(origin: int, chunk: int, extent: int) -> int:
    """Bytes of a snapshot that cannot fill, in whole extents: room for all of the origin.

    dm-snapshot writes a header chunk, then areas. An area is one chunk with an exception table,
    and the chunks that this table lists.
    """
    data = -(-origin // chunk)
    tables = data // (chunk // _EXCEPTION) + 1  # the last table ends the list, so it is never full
    return -(-(1 + tables + data) * chunk // extent) * extent
