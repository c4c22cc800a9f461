"""Plan how a host is given back; pure. ``WAYS`` is the table of the kinds of host.

A way has two halves, so that it can break off anywhere. The first is on the box: the old root
becomes the default, and the next boot takes it. All else is done on the old root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deploys.errors import PreflightError
from deploys.facts.disks import BlockDevice
from deploys.facts.lvm import VERSION_TAG, LogicalVolume, VolumeGroup
from deploys.facts.state import HostState
from deploys.operations.disks import BOOT_LABEL, LVM_LABEL
from deploys.operations.root import FILE
from deploys.plan.of_firmware import LOADER
from deploys.plan.sizes import human
from deploys.plan.survey import Survey
from deploys.reset.back.before import Before
from deploys.reset.back.old_system import OldSystem
from deploys.settings import own_volumes

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Found:
    """What is known of a host.

    ``old`` is a plain old root as the box sees it. ``wipe``: the disk that a provision was given
    is to be erased.
    """

    survey: Survey
    state: HostState
    before: Before
    old: OldSystem = field(default_factory=OldSystem)
    wipe: bool = False


@dataclass(frozen=True)
class Way:
    """What is left to do to give a host back. What does not apply is empty.

    Attributes:
        loss: what a person is asked.
        rows: operation, object and detail of each step, in order.
        volgroup: the box's VG.
        lvroot: its golden root.
        leaves: the host still runs the box.
        maintenance: it must first boot the golden root.
        merges: the golden root becomes the old root again, of which a snapshot is kept.
        starts_merge: the next boot does not do so yet.
        boot: the box's /boot, if that is not the host's: a partition.
        snapshots: LVs that go on the box.
        volumes: LVs that go on the old root.
        parts: PVs that leave the host's VG.
        file: the file that the box lies in.
        folder: the folder on the host that is its /boot.
        wiped: partitions and then the disk that are wiped.
        esps: EFI system partitions that get their own loader back.
        packages: those that go.
    """

    loss: str
    rows: tuple[Row, ...]
    volgroup: str
    lvroot: str
    leaves: bool
    maintenance: bool = False
    merges: bool = False
    starts_merge: bool = False
    boot: str = ""
    snapshots: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    file: str = ""
    folder: str = ""
    wiped: tuple[str, ...] = ()
    esps: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def plan_way(found: Found) -> Way:
    """Plan how to give a host back.

    Raises:
        PreflightError: it cannot be given back; the line says why.
    """
    if found.state.secured not in ("", "devel"):
        raise PreflightError("the box is secured, for good: install the host anew")
    if found.state.in_trial:
        raise PreflightError("it tries a change: wait until that is kept or rolled back")
    way = WAYS.get(found.before.kind)
    if way is None:
        raise PreflightError(
            "it became a box by a version of this project that is newer than yours"
        )
    return way(found)


def no_way(state: HostState) -> PreflightError:
    """Why a host without a record cannot be given back."""
    if not state.is_box:
        return PreflightError("it is no box: there is nothing to give back")
    return PreflightError(
        "there is no old root to go back to: the box was made from an image, or by a version of "
        "this project that noted none"
    )


def _of_spare(found: Found) -> Way:
    survey, before = found.survey, found.before
    leaves = _leaves_plain_root(found)
    group = survey.lvm.group(before.volgroup)
    disk = _boxs_disk(survey, group)
    wiped: tuple[str, ...] = ()
    if found.wipe:
        if disk is None and leaves:
            raise PreflightError("--wipe: the box's disk is not there")
        if (
            disk
            and group
            and any(survey.blocks.disks_under(pv.device) != (disk,) for pv in group.pvs)
        ):
            raise PreflightError(f"--wipe: {group.name} has more disks than {disk.path}")
        wiped = _with_parts(disk) if disk else ()  # wiped by a run that broke off
    fate = "is erased" if found.wipe else "stays as it is"
    of_disk = f"{disk.path} {fate}" if disk else "the box's disk is not there"
    old = f"the root {before.old_root}"
    rows: list[Row] = [("boot", old, "by default")] if leaves else []
    rows += _of_loaders(found)
    if disk:
        rows.append(("wipe" if wiped else "keep", disk.path, before.volgroup))
    return Way(
        f"The host goes back to {old}; {of_disk}{_data(found, group)}.",
        tuple(rows),
        before.volgroup,
        before.lvroot,
        leaves,
        boot=next((p.path for p in disk.children if p.partlabel == BOOT_LABEL), "") if disk else "",
        wiped=wiped,
        esps=tuple(part.path for part in survey.efi_partitions),
        packages=before.packages,
    )


def _of_file(found: Found) -> Way:
    survey, before = found.survey, found.before
    if found.wipe:
        raise PreflightError("--wipe: the box has no disk of its own; its file is removed anyway")
    leaves = _leaves_plain_root(found)
    old = f"the root {before.old_root}"
    rows: list[Row] = [("boot", old, "by default")] if leaves else []
    rows += _of_loaders(found)
    rows.append(("remove", FILE, before.volgroup))
    data = _data(found, survey.lvm.group(before.volgroup))
    return Way(
        f"The host goes back to {old}; {FILE} is removed{data}.",
        tuple(rows),
        before.volgroup,
        before.lvroot,
        leaves,
        file=FILE,
        folder=before.folder,
        esps=tuple(part.path for part in survey.efi_partitions),
        packages=before.packages,
    )


def _of_loaders(found: Found) -> list[Row]:
    """The rows of a plain root's boot loader and packages."""
    before = found.before
    rows: list[Row] = [("boot sector", f"of the root {before.old_root}", "as it was")]
    if found.survey.firmware.kind == "uefi":
        rows = [("boot entry", LOADER, "removed"), ("loader", "EFI/BOOT/BOOTX64.EFI", "as it was")]
    if before.packages:
        rows.append(("remove", "packages", " ".join(before.packages)))
    return rows


def _leaves_plain_root(found: Found) -> bool:
    """Whether a host whose old root is plain still runs the box; then that root can be booted.

    Raises:
        PreflightError: it cannot.
    """
    root = found.survey.blocks.find(found.survey.root.source)
    if root and root.uuid == found.before.old_root:
        return False
    uuid, old = found.before.old_root, found.old
    if found.state.is_box and not found.state.defaults.get("OLD_ROOT_UUID"):
        raise PreflightError("the old root was reclaimed: install the host anew")
    if not old.there:
        raise PreflightError(f"the old root {uuid} is not there, or cannot be mounted")
    if not old.noted:
        raise PreflightError(f"the old root {uuid} has no record of what the host was")
    if not old.boots:
        raise PreflightError(
            f"the old root {uuid} does not boot any more: its /boot has no GRUB menu, or no kernel "
            "with an initrd and modules"
        )
    return True


def _of_lvm(found: Found) -> Way:
    survey, before = found.survey, found.before
    group, root = survey.lvm.group(before.volgroup), survey.root_lv
    if group is None or root is None or root.vg != group.name:
        raise PreflightError(f"the host does not run from volume group {before.volgroup}")
    # An old root has no settings of the reset; while it is kept as a snapshot, it is not back yet.
    leaves = found.state.is_box or before.kept[:1] == "s"
    kept = f"{group.name}/{before.lvroot}_before"
    if leaves and not before.kept:
        raise PreflightError(f"the root as it was is not there: {group.name} had no room for it")
    if before.kept[4:5] in ("I", "S"):
        raise PreflightError(f"the root as it was is lost: more was changed than {kept} could hold")
    ours = [row.name for row in own_volumes.TABLE if group.lv(row.name)]
    volumes = [name for name in ours if f"{group.name}/{name}" not in before.volumes]
    snapshots = [lv.name for lv in group.lvs if lv.origin == before.lvroot and _is_ours(lv, before)]
    labelled = [
        (disk, part.path)
        for disk in survey.blocks.disks
        for part in disk.children
        if part.partlabel == LVM_LABEL
        and ((pv := survey.lvm.pv(part.path)) is None or pv.vg in ("", group.name))
    ]
    parts = [path for _, path in labelled if path in {pv.device for pv in group.pvs}]
    disks = [disk for disk, _ in labelled] if found.wipe else []
    if found.wipe and leaves and not disks:
        raise PreflightError("--wipe: no disk was added to the host")
    rows = [
        *([("boot", f"{group.name}/{before.lvroot} as it was", "for good")] if leaves else []),
        ("boot files", "/boot", "as they were"),
        *(("remove", f"{group.name}/{name}", "") for name in (*snapshots, *volumes)),
        *(("take", part, f"out of {group.name}") for part in parts),
        *(("wipe", disk.path, "") for disk in disks),
    ]
    return Way(
        "The root goes back to what it was before the host became a box, and all that was "
        f"installed or changed there since is lost{_data(found, group)}.",
        tuple(rows),
        group.name,
        before.lvroot,
        leaves,
        maintenance=leaves and root.name != before.lvroot,
        merges=True,
        starts_merge=before.kept[:1] == "s",
        snapshots=tuple(snapshots),
        volumes=tuple(volumes),
        parts=tuple(parts),
        wiped=tuple(path for disk in disks for path in _with_parts(disk)),
    )


def _is_ours(lv: LogicalVolume, before: Before) -> bool:
    """Whether a box made this snapshot of the golden root; it is not the kept old root."""
    return lv.name in (before.lvsnap, f"{before.lvroot}_safety") or VERSION_TAG in lv.tags


WAYS: Mapping[str, Callable[[Found], Way]] = {
    "spare": _of_spare,
    "file": _of_file,
    "lvm": _of_lvm,
}
"""The kinds of host, by the word in their records (``before.noted``)."""


def _boxs_disk(survey: Survey, group: VolumeGroup | None) -> BlockDevice | None:
    """The disk that a plain root was copied to. The host may not have LVM any more."""
    ours = [
        disk
        for disk in survey.blocks.disks
        if {BOOT_LABEL, LVM_LABEL} <= {part.partlabel for part in disk.children}
    ]
    if group:
        pvs = {pv.device for pv in group.pvs}
        ours = [disk for disk in ours if pvs & {part.path for part in disk.children}]
    return ours[0] if len(ours) == 1 else None


def _with_parts(disk: BlockDevice) -> tuple[str, ...]:
    """The partitions of a disk, and last the disk, as they go with its table."""
    return (*(part.path for part in disk.children), disk.path)


def _data(found: Found, group: VolumeGroup | None) -> str:
    """What becomes of each volume with data, as the end of a sentence."""
    lost = found.wipe or found.before.kind != "spare"
    said = []
    for row in own_volumes.mounted():
        volume: LogicalVolume | None = group.lv(row.name) if group else None
        if volume is None or f"{volume.vg}/{volume.name}" in found.before.volumes:
            continue
        used = found.state.used.get(row.mount)
        size = f"{human(volume.size)}" if used is None else f"{human(used)} in use"
        said.append(f"{row.mount} ({size})")
    return f", and {' and '.join(said)} {'is lost' if lost else 'with it'}" if said else ""
