"""The safety net of a change to the golden root: a snapshot of it, merged back on failure.

While ``LVROOT_safety`` exists a change is under way. Whatever boots a snapshot of the root next
takes that for a change that failed, and merges it back before (static/onbox/usr/lib/resnap):
so after a power cut at any instant the golden root is as before the change, or as after it.

A change that is made is tried: GRUB counts the boots into it, and the box keeps it by itself when
one of them comes up healthy (static/onbox/usr/lib/resnap/trial). /boot goes back with the root.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.lvm import Lvm, VolumeGroup
from deploys.plan.result import VolumePlan
from deploys.plan.sizes import cow_size
from deploys.settings import KIB, MIB

TRIAL_ROOM = 256 * MIB
"""Bytes that a group must have left for the snapshot of a trial, which runs for minutes."""
_TRIAL = "/usr/lib/resnap/trial"


def safety_name(lvroot: str) -> str:
    """The name of the safety snapshot; the initramfs script knows it by the same rule."""
    return f"{lvroot}_safety"


@operation()
def _taken(
    group: str, lvroot: str, lvsnap: str, leave: int = 0
) -> Generator[StringCommand, None, None]:
    report = host.get_fact(Lvm).group(group)
    name = safety_name(lvroot)
    left = report.lv(name) if report else None
    if left and left.origin:
        return  # of a change that broke off: it holds the older, good root
    if left:
        # the power went before it was a snapshot
        yield StringCommand("lvremove", "--yes", f"{group}/{name}")
    if report and report.lv(lvsnap):
        # The next boot takes it anew anyhow; its room is what the safety snapshot has.
        yield StringCommand("lvremove", "--yes", f"{group}/{lvsnap}")
    extents = _extents(report, lvroot, lvsnap, leave)
    yield StringCommand(
        f"lvcreate --yes --snapshot --chunksize 64K --extents {extents}",
        f"--name {name} {group}/{lvroot}",
    )


def _extents(report: VolumeGroup | None, lvroot: str, lvsnap: str, leave: int) -> str:
    """So many that the snapshot cannot fill, or as many as leave room for that of a trial.

    ``leave`` is the bytes that the change itself takes, for volumes that it makes.
    """
    root = report.lv(lvroot) if report else None
    if report is None or root is None:
        return "100%ORIGIN"
    snapshot = report.lv(lvsnap)
    room = report.free + (snapshot.size if snapshot else 0) - TRIAL_ROOM - leave
    most = cow_size(root.size, 64 * KIB, report.extent_size)
    if room < min(most, TRIAL_ROOM):
        return "100%ORIGIN"  # which LVM then refuses
    return str(min(most, room) // report.extent_size)


@operation()
def _trial(word: str) -> Generator[StringCommand, None, None]:
    yield StringCommand(_TRIAL, word)


@deploy("Safety")
def take_safety(plan: VolumePlan) -> None:
    """In maintenance, before anything is changed: take the safety snapshot, keep /boot's files."""
    _taken(
        name="Take the safety snapshot",
        group=plan.volgroup,
        lvroot=plan.lvroot,
        lvsnap=plan.lvsnap,
        leave=sum(volume.size for volume in plan.volumes if not volume.exists),
    )
    _trial(name="Keep what /boot has", word="save")


@deploy("Safety")
def begin_trial() -> None:
    """The change is made: from the next boot on it is tried."""
    _trial(name="Have the change tried", word="begin")


@deploy("Safety")
def keep_safety() -> None:
    """The golden root stays as it is now, untried; what it was is kept as a version."""
    _trial(name="Keep the version before", word="keep")


@deploy("Safety")
def drop_safety() -> None:
    """The golden root stays as it is now, untried, and there is no way back to what it was."""
    _trial(name="Remove the safety snapshot", word="drop")
