"""Tell the kind of a host from its survey, and plan its volumes; pure."""

from __future__ import annotations

from dataclasses import replace

from deploys.plan.of_box import is_box, plan_box
from deploys.plan.of_lvm import plan_lvm
from deploys.plan.of_spare import plan_spare
from deploys.plan.refusals import check_clones, check_host, check_names, check_sight
from deploys.plan.result import VolumePlan
from deploys.plan.survey import Survey
from deploys.settings import Volumes


def plan_volumes(survey: Survey, volumes: Volumes, *, force: bool = False) -> VolumePlan:
    """Tell the kind of a host, and plan its volumes.

    Args:
        survey: the state of the host and of the disk that the user named, if any.
        volumes: the settings.
        force: that disk may be wiped.

    Raises:
        PreflightError: the host or the disk is not fit; the line says why.
    """
    check_clones(survey)
    check_sight(survey)
    root_lv = survey.root_lv
    check_names(volumes, volumes.lvroot if root_lv is None else root_lv.origin or root_lv.name)
    if root_lv is None:
        check_host(survey)
        return replace(plan_spare(survey, volumes, force), lasting=survey.lasting)
    group = survey.lvm.group(root_lv.vg)
    assert group is not None
    if is_box(root_lv, group, volumes):
        return plan_box(survey, volumes, root_lv, group)
    check_host(survey)
    return replace(plan_lvm(survey, volumes, root_lv, group, force), lasting=survey.lasting)
