"""Check that a host can be provisioned, and plan what to do to it. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deploys.errors import PreflightError
from deploys.facts.packages import Complaints
from deploys.facts.state import HostState, State
from deploys.plan.of_host import plan_volumes
from deploys.plan.result import Kind, VolumePlan
from deploys.plan.survey import read_survey
from deploys.session import Session
from deploys.settings import Settings

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
    session: Session, settings: Settings, device: str | None = None, *, force: bool = False
) -> Preflight:
    """Read a host and plan what to do to it.

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
    plan = plan_volumes(read_survey(session.fact, device), settings.volumes, force=force)
    if plan.kind is Kind.BOX:
        # Only the first provision saw the old root.
        plan = replace(
            plan,
            old_root_uuid=state.defaults.get("OLD_ROOT_UUID", ""),
            old_boot_uuid=state.defaults.get("OLD_BOOT_UUID", ""),
        )
    return Preflight(state, plan, python)
