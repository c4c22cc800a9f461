"""A host's state as plain values: what a program reads, and the page that a box shows of itself.

Needs nothing but Python, as deploys/facts/hoststate.py.
"""

from __future__ import annotations

from dataclasses import asdict

from deploys.facts.hoststate import HostState

_MODES = {"fresh": "snapshot", "kept": "snapshot", "golden": "maintenance", "failed": "failed"}


def mode(state: HostState) -> str:
    """What the host runs on: snapshot, maintenance, failed, quarantine, or that it is not a box."""
    if state.in_quarantine:
        return "quarantine"
    return _MODES[state.verdict.name] if state.verdict else "not a box"


def status(state: HostState) -> dict[str, object]:
    """The status as plain values; sizes in bytes, times in seconds."""
    return {
        "mode": mode(state),
        "role": state.release.get("ROLE"),
        "verdict": asdict(state.verdict) if state.verdict else None,
        "reset_seconds": state.verdict.reset_seconds if state.verdict else None,
        "reset_at": state.reset_at.isoformat(timespec="seconds") if state.reset_at else None,
        "snapshot_percent": state.snapshot_percent,
        "kernel": state.kernel,
        "initrd_matches": state.initrd_matches,
        "manifest": state.release.get("MANIFEST"),
        "commit": state.release.get("COMMIT"),
        "provisiond": dict(state.provisiond),
        "versions": dict(state.versions),
        "free": dict(state.free),
        "system": f"{state.os_id} {state.os_version}",
        "boot_id": state.boot_id,
        "uptime": state.uptime,
    }
