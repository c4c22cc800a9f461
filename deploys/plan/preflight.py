"""Check that a host can be provisioned, and plan what to do to it. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deploys.errors import NoRoomError, PreflightError
from deploys.facts.packages import Complaints
from deploys.facts.state import HostState, State
from deploys.plan.of_box import is_box, plan_box
from deploys.plan.of_file import its_kind, plan_file, unfit
from deploys.plan.of_lvm import plan_lvm
from deploys.plan.of_spare import plan_spare
from deploys.plan.refusals import check_clones, check_host, check_names, check_sight
from deploys.plan.result import Kind, VolumePlan
from deploys.plan.survey import Survey, read_survey
from deploys.session import Session
from deploys.settings import Settings, Volumes

# The hosts that were seen to become a box in a file, by system and program for the initrds: of each
# tests/boot/hosts/test_in_file.py has a walk.
_IN_FILE = {
    ("debian", "12", "initramfs-tools"): ("BIOS and ext4",),
    ("debian", "13", "initramfs-tools"): (
        "BIOS and ext4",
        "BIOS and ext4 on LVM with /boot of its own",
        "UEFI and xfs",
    ),
}
# The systems that can be a box, each with the version of its python3.
SYSTEMS = {
    ("debian", "12"): "3.11",
    ("debian", "13"): "3.13",
    ("ubuntu", "22.04"): "3.10",
    ("ubuntu", "24.04"): "3.12",
}


@dataclass(frozen=True)
class Preflight:
    """A host that can be provisioned: its state, the plan of its volumes, its Python's version."""

    state: HostState
    plan: VolumePlan
    python: str


def check(
    session: Session,
    settings: Settings,
    device: str | None = None,
    *,
    force: bool = False,
    in_file: int | None = None,
) -> Preflight:
    """Read a host and plan what to do to it; the arguments are those of :func:`plan_volumes`.

    Raises:
        PreflightError: the host is not fit; the line says why and what to do.
    """
    state = session.fact(State)
    python = SYSTEMS.get((state.os_id, state.os_version))
    if python is None:
        known = ", ".join(f"{name.capitalize()} {version}" for name, version in SYSTEMS)
        system = f"{state.os_id} {state.os_version}".strip() or "an unknown system"
        raise PreflightError(f"the host runs {system}; a box can be {known}")
    if not state.initrds:
        raise PreflightError("the host has neither initramfs-tools nor dracut to make initrds with")
    if broken := session.fact(Complaints):
        names = " ".join(broken)
        raise PreflightError(
            f"dpkg --audit complains of {names}: mend that first, say with "
            f"apt-get install --reinstall {names}"
        )
    survey = read_survey(session.fact, device)
    plan = plan_volumes(survey, settings.volumes, force=force, in_file=in_file)
    tried = _IN_FILE.get((state.os_id, state.os_version, state.initrds), ())
    if plan.kind is Kind.FILE and (its := its_kind(survey)) not in tried:
        which = f"{state.os_id.capitalize()} {state.os_version} with {state.initrds}, {its}"
        raise unfit(survey, f"{which} was not tried", is_asked=in_file is not None)
    if plan.kind is Kind.BOX:
        # Only the first provision saw the old root.
        defaults = state.defaults
        plan = replace(
            plan,
            old_root_uuid=defaults.get("OLD_ROOT_UUID", ""),
            old_boot_uuid=defaults.get("OLD_BOOT_UUID", ""),
            file=defaults.get("VOLFILE", ""),
        )
    return Preflight(state, plan, python)


def plan_volumes(
    survey: Survey, volumes: Volumes, *, force: bool = False, in_file: int | None = None
) -> VolumePlan:
    """Tell the kind of a host, and plan its volumes; pure.

    Args:
        survey: the state of the host and of the disk that the user named, if any.
        volumes: the settings.
        force: that disk may be wiped.
        in_file: the box is to lie in a file of so many bytes, or of as many as it needs (0); None:
            only where there is no other way.

    Raises:
        PreflightError: the host or the disk is not fit; the line says why.
    """
    check_clones(survey)
    check_sight(survey)
    root_lv = survey.root_lv
    check_names(volumes, volumes.lvroot if root_lv is None else root_lv.origin or root_lv.name)
    group = survey.lvm.group(root_lv.vg) if root_lv else None
    if root_lv and group and is_box(root_lv, group, volumes):
        if in_file is not None and not survey.is_in_file:
            raise PreflightError("the host is a box already, and does not lie in a file")
        return plan_box(survey, volumes, root_lv, group)
    if in_file is not None and survey.device:
        raise PreflightError("--in-file and --device exclude each other: leave out one")
    has_disk = bool(survey.device or survey.spare_disks)
    if in_file is not None or (not has_disk and _is_only_way(survey, volumes)):
        plan = plan_file(survey, volumes, in_file)
    else:
        check_host(survey)
        if root_lv is None or group is None:
            plan = plan_spare(survey, volumes, force)
        else:
            try:
                plan = plan_lvm(survey, volumes, root_lv, group, force)
            except NoRoomError:
                if has_disk:
                    raise
                plan = plan_file(survey, volumes, None)
    return replace(plan, lasting=survey.lasting)


def _is_only_way(survey: Survey, volumes: Volumes) -> bool:
    """Whether a host without a disk to name can be a box in a file only, as far as one sees.

    A root on LVM may have room beside it.
    """
    if survey.root_lv:
        return survey.file.size > 0
    return survey.file.attached or not survey.lvm.group(volumes.volgroup)
