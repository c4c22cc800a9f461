"""The safety net of a change to the golden root: a snapshot of it, merged back on failure.

While ``LVROOT_safety`` exists a change is under way. Whatever boots a snapshot of the root next
takes that for a change that failed, and merges it back before (static/onbox/usr/lib/resnap):
so after a power cut at any instant the golden root is as before the change, or as after it.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.deploy import deploy
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.lvm import Lvm
from deploys.volume_plan import VolumePlan


def safety_name(lvroot: str) -> str:
    """The name of the safety snapshot; the initramfs script knows it by the same rule."""
    return f"{lvroot}_safety"


@operation()
def _taken(group: str, lvroot: str, lvsnap: str) -> Generator[StringCommand, None, None]:
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
    yield StringCommand(
        "lvcreate --yes --snapshot --chunksize 64K --extents 100%ORIGIN",
        f"--name {name} {group}/{lvroot}",
    )


@operation()
def _removed(group: str, lvroot: str) -> Generator[StringCommand, None, None]:
    report = host.get_fact(Lvm).group(group)
    if report and report.lv(safety_name(lvroot)):
        yield StringCommand("sync && lvremove --yes", f"{group}/{safety_name(lvroot)}")


@deploy("Safety")
def take_safety(plan: VolumePlan) -> None:
    """In maintenance, before anything is changed: take the safety snapshot."""
    _taken(
        name="Take the safety snapshot",
        group=plan.volgroup,
        lvroot=plan.lvroot,
        lvsnap=plan.lvsnap,
    )


@deploy("Safety")
def drop_safety(plan: VolumePlan) -> None:
    """All went well: the golden root stays as it is now."""
    _removed(name="Remove the safety snapshot", group=plan.volgroup, lvroot=plan.lvroot)
