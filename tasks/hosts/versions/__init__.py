"""The versions of the golden root: list them, roll back to one, promote the snapshot."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from deploys.errors import DeployError, PreflightError
from deploys.facts.state import HostState
from deploys.stack.bundle import Project
from deploys.stack.manifest import manifest
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.expectations import (
    TRIAL_BOOTS,
    expect,
    expect_snapshot,
    is_gateway,
    is_settled,
    reboot_deadline,
    rollback_reason,
    settings_of,
    state_of_box,
)

_VERSIONS = "/usr/lib/resnap/versions"


@dataclass(frozen=True)
class Version:
    """An earlier golden root; ``replaced`` is when, by the host's clock."""

    name: str
    replaced: datetime
    manifest: str
    commit: str


def versions(host: Host) -> list[Version]:
    """List the earlier versions of a host's golden root, the newest first.

    Raises:
        BoxError: the host is not a box, or does not answer.
    """
    state_of_box(host)
    _require_script(host)
    rows = (line.split(" ") for line in host.run(f"{_VERSIONS} list").splitlines())
    with host.parsing("its versions"):
        return [
            Version(name, datetime.fromtimestamp(int(when), UTC), *words)
            for name, when, *words in rows
        ]


def roll_back(host: Host, progress: HostProgress, to: str = "") -> HostState:
    """Roll a golden root and its kernels back to an earlier version.

    Args:
        to: the first digits of the version's manifest; empty: the last version, or, while a
            change is being tried, the version before it.

    Raises:
        BoxError: there is no such version, or the host did not boot it.
    """
    progress.step("looking at the host")
    state = state_of_box(host)
    host.require_reboot()
    if state.in_trial:
        if to:
            raise PreflightError(
                f"{host.name} is trying a change: roll it back first, without --to"
            )
        host.run("/usr/lib/resnap/trial back 'by hand'")
        progress.step("rolling back the change on trial")
        return _require_fresh(host, _try(host))
    version = _chosen(host.name, versions(host), to)
    host.run(f"{_VERSIONS} back {shlex.quote(version.name)}")
    progress.step(f"rolling back to {version.manifest[:12]}")
    state = _require_fresh(host, _try(host))
    if state.release.get("MANIFEST") != version.manifest:
        raise DeployError(f"{host.name}: booted another version than {version.manifest[:12]}")
    return state


def promote(host: Host, progress: HostProgress) -> HostState:
    """Make the snapshot that a host runs on its golden root.

    Raises:
        BoxError: the snapshot cannot be promoted, there is no room for a way back, or the host
            did not come up healthy; the golden root is then as before.
    """
    progress.step("looking at the host")
    state = state_of_box(host)
    expect_snapshot(host, state)
    if state.in_trial:
        raise PreflightError(f"{host.name} is trying a change: its snapshot cannot be promoted")
    if is_gateway(state):
        raise PreflightError(
            f"{host.name} is a gateway: its owners' accounts would be in the golden root for ever"
        )
    _require_script(host)
    host.require_reboot()
    progress.step("writing the manifest")
    project = Project(state.release.get("COMMIT", ""), state.release.get("PROJECT", ""))
    settings = settings_of(host)
    with host.session(progress) as session:
        session.prepare(
            [partial(manifest, settings=settings, project=project, promoted=state.clock)]
        )
        session.run()
    host.run(f"{_VERSIONS} promote")
    progress.step("trying what was promoted in a fresh snapshot")
    after = _try(host)
    if why := rollback_reason(after, before=state):
        raise DeployError(f"{host.name}: what was promoted was rolled back: {why}")
    return _require_fresh(host, after)


def _require_script(host: Host) -> None:
    """Require that a box has the script of versions; an older version of it had another name.

    Raises:
        PreflightError: it has not.
    """
    if not host.run(f"! test -x {_VERSIONS} || echo yes").strip():
        raise PreflightError(
            f"{host.name} was made by an older version of this project: provision it first"
        )


def _try(host: Host) -> HostState:
    """Reboot, and return the state after the trial of the changed golden root."""
    return host.reboot("resnap", TRIAL_BOOTS * reboot_deadline(host), is_settled)


def _require_fresh(host: Host, state: HostState) -> HostState:
    expect(host, state, "fresh")
    return state


def _chosen(host: str, found: list[Version], to: str) -> Version:
    matching = [version for version in found if version.manifest.startswith(to)]
    if not found:
        raise PreflightError(f"{host} has no earlier version of its golden root")
    if not matching or (to and len(matching) > 1):
        have = ", ".join(version.manifest[:12] for version in found)
        which = "no" if not matching else "more than one"
        raise PreflightError(f"{host} has {which} version {to}; it has {have}")
    return matching[0]
