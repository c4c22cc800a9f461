"""What a host's state must be before a task changes it, and after a boot."""

from __future__ import annotations

import json
from posixpath import dirname

from pydantic import ValidationError

from deploys.errors import DeployError, PreflightError
from deploys.facts.state import HostState
from deploys.operations.manifest import SETTINGS
from deploys.session import NONSENSE
from deploys.settings import Boot, Settings
from deploys.stack.manifest import parse_settings
from tasks.hosts.connection import Host

DEADLINE = "/persistent/settings/reboot-deadline"
"""The box's ``boot.reboot_deadline``. No part of a box depends on it, so no manifest has it."""
TRIAL_BOOTS = 4
"""Three tries (static/onbox/usr/lib/resnap/trial), and the boot that rolls back."""


def state_of_box(host: Host) -> HostState:
    """Read the state of a host that must be a box.

    Raises:
        PreflightError: the host was never provisioned.
    """
    state = host.state()
    if not state.is_box:
        raise PreflightError(f"{host.name} is not a box yet: provision it first")
    return state


def reboot_deadline(host: Host) -> int:
    """The ``boot.reboot_deadline`` of the box's last provision: seconds that a reboot may take.

    A box without one, or with one that this version does not take, has the default.
    """
    try:
        found = json.loads(host.run(f"cat {DEADLINE} 2>/dev/null || cat {SETTINGS} || echo 0"))
        if isinstance(found, dict):  # older versions wrote it among the box's settings
            found = found["boot"]["reboot_deadline"]
        return Boot(reboot_deadline=found).reboot_deadline
    except (*NONSENSE, ValidationError):
        return Boot().reboot_deadline


def keep_deadline(host: Host, seconds: float) -> None:
    """Have all tasks wait so long for this box from now on.

    Raises:
        UnreachableError, DeployError: see ``Host.run``.
    """
    new = f"{DEADLINE}.new"
    host.run(
        f'[ "$(cat {DEADLINE} 2>/dev/null)" = {seconds:.0f} ] || {{ '
        f"mkdir -p {dirname(DEADLINE)} && echo {seconds:.0f} >{new} && mv {new} {DEADLINE}; }}"
    )


def is_gateway(state: HostState) -> bool:
    """Whether a host was provisioned as a pipeline's gateway."""
    return state.role == "gateway"


def expect_gateway(host: Host, state: HostState) -> None:
    """Require that a host is a pipeline's gateway.

    Raises:
        PreflightError: it is not.
    """
    if not is_gateway(state):
        raise PreflightError(
            f"{host.name} is not a gateway: name one with fab -H, "
            "or provision one with --role gateway"
        )


def expect_gateway_at_work(host: Host) -> None:
    """Require that a host is a gateway that runs on a snapshot.

    On another root no account would last, and in maintenance queue and results look empty.

    Raises:
        PreflightError: it is none, or does not.
        DeployError, UnreachableError: see ``Host.run``.
    """
    state = host.state()
    expect_gateway(host, state)
    expect_snapshot(host, state)


def expect_snapshot(host: Host, state: HostState) -> None:
    """Require that a host runs on a snapshot of its golden root.

    Raises:
        PreflightError: it runs on the golden root itself, or the reset failed.
    """
    if not state.in_snapshot:
        raise PreflightError(
            f"{host.name} does not run on a snapshot: see fab -H {host.name} status"
        )


def expect(host: Host, state: HostState, name: str) -> None:
    """Require that the last boot's verdict has this name.

    Raises:
        DeployError: it has another; the line says which, and the reason.
    """
    verdict = state.verdict
    if verdict is None:
        raise DeployError(
            f"{host.name}: booted without the reset: GRUB's default entry is not the box's"
        )
    if verdict.name != name:
        because = f": {verdict.reason}" if verdict.reason else ""
        raise DeployError(f"{host.name}: the boot's verdict is {verdict.name}, not {name}{because}")


def is_settled(state: HostState) -> bool:
    """Whether a box has ended its trial, or stays up in quarantine."""
    return not state.in_trial or state.in_quarantine


def rollback_reason(state: HostState, before: HostState) -> str:
    """Why a change was rolled back since the state ``before``; empty if none was."""
    if state.rolled_back in (None, before.rolled_back):
        return ""
    return state.rolled_back[1]


def settings_of(host: Host) -> Settings:
    """The settings that a box was provisioned with, read from the box.

    Raises:
        BoxError: the host is not a box, or its settings are of another version of this project.
    """
    state_of_box(host)
    found = parse_settings(host.run(f"cat {SETTINGS}"), f"{host.name}: {SETTINGS}")
    boot = found.boot.model_copy(update={"reboot_deadline": reboot_deadline(host)})
    return found.model_copy(update={"boot": boot})
