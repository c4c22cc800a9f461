"""A host's status as plain values, for programs and for the status page, with its faults.

This file needs nothing but Python, like deploys/facts/host_state.py.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime, timezone

from deploys.facts.host_state import VERDICTS, HostState

_FULL = 50  # a filesystem is full if less than this part of it is free
_CLOCK = 600  # seconds; to read many hosts takes minutes
_DAY = 86400


def mode(state: HostState) -> str:
    """What the host runs on: snapshot, trial, maintenance, failed, quarantine, or not a box."""
    if state.in_quarantine:
        return "quarantine"
    if state.in_trial and state.in_snapshot:
        return "trial"
    return VERDICTS[state.verdict.name].mode if state.verdict else "not a box"


def faults(state: HostState) -> list[str]:
    """What is wrong with a box's roots, filesystems and clock, in a line each."""
    if not state.is_box:
        return []
    return [*unfinished(state), *filling(state), *rolled_back(state), *unhealthy(state)]


def unfinished(state: HostState) -> list[str]:
    """A line if the first provision of a box broke off and was not run again; else none."""
    if state.release or not state.in_snapshot:
        return []
    return ["the golden root is unfinished, its provision broke off: provision it again"]


def rolled_back(state: HostState) -> list[str]:
    """A line if the last change of the golden root was rolled back, with the reason; else none."""
    if state.rolled_back is None:
        return []
    when, why = state.rolled_back
    at = datetime.fromtimestamp(when, timezone.utc)
    return [f"the last change was rolled back, at {at:%Y-%m-%d %H:%M} UTC: {why}"]


def unhealthy(state: HostState) -> list[str]:
    """What is wrong with a box's filesystems and its clock, in a line each."""
    found = []
    if state.mounts:
        missing = (target for target in state.watched if target not in state.mounts)
        found += [f"{target} is not mounted" for target in missing]
    found += [f"{target} is read-only" for target, words in state.mounts.items() if "ro" in words]
    found += [
        f"{target} is full: {free / 1e6:.0f} MB are free"
        for target, free in state.free.items()
        if free * _FULL < free + state.used.get(target, 0)
    ]
    if state.read_at is not None and abs(state.clock - state.read_at) > _CLOCK:
        hours = (state.clock - state.read_at) / 3600
        how = "ahead of" if hours > 0 else "behind"
        found.append(f"the clock is {abs(hours):.1f} h {how} the desk's")
    return found


def filling(state: HostState) -> list[str]:
    """A line if the snapshot fills up, and one if it filled up within the last day."""
    found = []
    percent = state.snapshot_percent
    words = [state.defaults.get(name, "") for name in ("WARN_PERCENT", "RESET_PERCENT")]
    limits = [int(word) if word.isdecimal() else 0 for word in words]
    if percent is not None and 0 < limits[0] <= percent:
        what_follows = ""
        if not re.fullmatch(r"[1-9]\d\d+%ORIGIN", state.defaults.get("LVSIZE", "")):
            what_follows = f": at {limits[1]} % the box resets"
        found.append(f"the snapshot is {percent} % full{what_follows}")
    if percent is None and state.in_snapshot:
        found.append("the snapshot does not say how full it is: it overflowed, or is not the root")
    if times := sum(0 <= state.clock - when < _DAY for when in state.overfull):
        found.append(f"the snapshot filled up and was reset, within a day: {times}")
    return found


def status(state: HostState) -> dict[str, object]:
    """Return the status as plain values. Sizes are in bytes, times in seconds."""
    return {
        "mode": mode(state),
        "role": state.role or None,
        "verdict": asdict(state.verdict) if state.verdict else None,
        "reset_seconds": state.verdict.reset_seconds if state.verdict else None,
        "reset_at": state.reset_at.isoformat(timespec="seconds") if state.reset_at else None,
        "snapshot_percent": state.snapshot_percent,
        "firmware": state.firmware,
        "secure_boot": state.secure_boot,
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
        "faults": faults(state),
    }
