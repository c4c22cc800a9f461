"""The safety net of a change to the golden root: a snapshot of it, merged back on failure.

While ``LVROOT_safety`` exists a change is under way. Whatever boots a snapshot of the root next
takes that for a change that failed, and merges it back before (static/onbox/usr/lib/resnap):
so after a power cut at any instant the golden root is as before the change, or as after it.

A change that is made is tried: GRUB counts the boots into it, and the box keeps it by itself when
one of them comes up healthy (static/onbox/usr/lib/resnap/trial). /boot goes back with the root.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import boot, lvm
from deploys.plan.result import VolumePlan


@deploy("Safety")
def take_safety(plan: VolumePlan) -> None:
    """In maintenance, before anything is changed: take the safety snapshot, keep /boot's files."""
    lvm.safety_snapshot(
        name="Take the safety snapshot",
        group=plan.volgroup,
        lvroot=plan.lvroot,
        lvsnap=plan.lvsnap,
        leave=sum(volume.size for volume in plan.volumes if not volume.exists),
    )
    boot.trial(name="Keep what /boot has", word="save")


@deploy("Safety")
def begin_trial() -> None:
    """The change is made: from the next boot on it is tried."""
    boot.trial(name="Have the change tried", word="begin")


@deploy("Safety")
def keep_safety() -> None:
    """The golden root stays as it is now, untried; what it was is kept as a version."""
    boot.trial(name="Keep the version before", word="keep")


@deploy("Safety")
def drop_safety() -> None:
    """The golden root stays as it is now, untried, and there is no way back to what it was."""
    boot.trial(name="Remove the safety snapshot", word="drop")
