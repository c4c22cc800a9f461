"""Secure a change of the golden root by a safety snapshot, which is merged back on failure.

While a change is made, the LV ``LVROOT_safety`` exists. A reset that finds it, and is no trial,
takes the change for failed and first merges the snapshot back (static/onbox/usr/lib/resnap). So
after a power cut at any time the golden root is as before the change, or as after it.

Then the change is tried: GRUB counts the boots, and after a healthy one the box keeps the change
(static/onbox/usr/lib/resnap/trial). If the change is rolled back, so is /boot.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import boot, lvm
from deploys.plan.result import VolumePlan


@deploy("Safety")
def take_safety(plan: VolumePlan) -> None:
    """In maintenance, before a change: take the safety snapshot, and save the files of /boot."""
    lvm.safety_snapshot(
        name="Take the safety snapshot",
        group=plan.volgroup,
        lvroot=plan.lvroot,
        lvsnap=plan.lvsnap,
        leave=sum(volume.size for volume in plan.volumes if not volume.exists),
    )
    boot.trial(name="Save the files of /boot", word="save")


@deploy("Safety")
def begin_trial() -> None:
    """After a change: have the next boots try it."""
    boot.trial(name="Begin the trial", word="begin")


@deploy("Safety")
def keep_safety() -> None:
    """Keep the change without a trial, and the golden root of before as a version."""
    boot.trial(name="Keep the old golden root as a version", word="keep")


@deploy("Safety")
def drop_safety() -> None:
    """Keep the change without a trial, and no way back to the golden root of before."""
    boot.trial(name="Remove the safety snapshot", word="drop")
