"""Writes the data of the status page, /run/pipeline/status.json.

The data is the box's own state, in the words of ``status``, and the reports of its services
(reports.py). Everybody may read it, so it has states, counts and versions only. Why something is
so may name hosts and users, or be a Test's own words: that is in the journal and in ``fab status``.

status-page-gather.timer starts this as root each INTERVAL seconds, so that the server of the file
needs no rights. On a box ``deploys`` is beside this file, from the same checkout.

PIPELINE_ROOT: a directory that stands for / (for tests; not set on a box).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reports import Line, Report, read_all

from deploys.facts import host_state
from deploys.facts.host_state import HostState
from deploys.facts.status import filling, status, unhealthy

INTERVAL = 60
_LOG_LINES = 20
_WARNING = "<4>"  # sd-daemon(3): the level of a line for the journal
_DEADLINE = 45  # seconds; all files are small and local
# The fields of `status` that everybody may see, each with the form of its words. What has another
# form is not shown. Fields without a form are numbers, or words of `status` itself.
_FIELDS: dict[str, str] = {
    "role": r"[a-z]{1,20}",
    "mode": "",
    "reset_seconds": "",
    "reset_at": "",
    "snapshot_percent": "",
    "kernel": r"[0-9][0-9A-Za-z.+~_-]{1,63}",
    "initrd_matches": "",
    "manifest": r"[0-9a-f]{64}",
    "commit": r"[0-9a-f]{7,64}(-dirty)?|unknown",
    "versions": r"[0-9][0-9A-Za-z.+~:-]{0,63}",
    "free": "",
    "system": r"[a-z]{1,20} [0-9.]{1,20}",
    "uptime": "",
}
_STEPS = ("finished", "runsetup", "runsecure")


def main() -> None:
    """Gather the data and write it.

    Raises:
        OSError, subprocess.SubprocessError: the old file stays, and the page says how old it is.
    """
    root = os.environ.get("PIPELINE_ROOT", "")
    words = ["sh", "-c", host_state.command(root)]
    done = subprocess.run(  # noqa: S603 - our own command
        words, stdout=subprocess.PIPE, timeout=_DEADLINE, check=True
    )
    state = host_state.parsed(done.stdout.decode(errors="replace").splitlines())
    folder = Path(f"{root}/run/pipeline")
    now = int(time.time())
    reports, faults = read_all(folder / "status.d", now)
    for fault in faults:
        print(f"{_WARNING}{fault}", file=sys.stderr)
    page = content(state, reports, len(faults), now)
    part = folder / ".status.json.new"
    part.write_text(f"{json.dumps(page, allow_nan=False)}\n")
    part.chmod(0o644)
    part.replace(folder / "status.json")


def content(state: HostState, reports: list[Report], refused: int, now: int) -> dict[str, object]:
    """The page's data; a field that nobody reports is None. ``refused`` counts bad reports."""
    said = status(state)
    links = {report.link for report in reports if report.link}
    verdict = state.verdict
    page: dict[str, Any] = {
        "written": now,
        "interval": INTERVAL,
        "verdict": verdict and {"name": verdict.name},
        **{name: _public(said[name], form) for name, form in _FIELDS.items()},
        "provisiond": {
            "state": state.provisiond.get("state", "not run"),
            **{name: int(value) for name, value in _steps(state)},
        },
        "queue": _queue(reports) if links else None,
        "jobs": _jobs(reports),
    }
    own = _own_lines(state, page)
    lines = sorted((*own, *(line for report in reports for line in report.log)), key=_time)
    page["log"] = [vars(line) for line in lines[-_LOG_LINES:]]
    alarms = list(_alarms(state, page))
    if refused:
        alarms.append(("warning", "", f"reports of services that cannot be read: {refused}"))
    page["alarms"] = [
        {"level": level, "field": field, "text": text} for level, field, text in alarms
    ]
    return page


def _public(value: Any, form: str) -> Any:
    """What of a field is shown: all of it if it has no form, else what has that form."""
    if isinstance(value, dict) and form:
        return {name: word for name, word in value.items() if re.fullmatch(form, word)}
    return value if not form or re.fullmatch(form, value or "") else None


def _alarms(state: HostState, page: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    verdict = state.verdict
    if verdict is None:
        yield "alarm", "verdict", "this host has left no verdict of a reset: it is not a box"
        return
    yield from _of_the_reset(state, verdict.name)
    if not state.initrd_matches:
        yield "alarm", "initrd_matches", "kernel and initrd do not match"
    yield from (("alarm", "snapshot_percent", fault) for fault in filling(state))
    if state.provisiond.get("state") == "failed":
        yield "alarm", "provisiond", "provisiond failed to set the box up"
    yield from (("alarm", "free", fault) for fault in unhealthy(state))
    if page["queue"] and page["queue"]["link"] == "down":
        yield "warning", "queue", "there is no link to the queue"


def _of_the_reset(state: HostState, verdict: str) -> Iterable[tuple[str, str, str]]:
    if verdict == "failed":
        yield "alarm", "verdict", "the last reset failed"
    if state.in_quarantine:
        yield "alarm", "mode", "in quarantine: several resets in a row failed, none is tried again"
    if verdict == "golden":
        yield "warning", "mode", "in maintenance: the golden root itself is mounted"
    if state.rolled_back:
        yield "alarm", "mode", "the last change of the golden root was rolled back"


def _steps(state: HostState) -> Iterable[tuple[str, str]]:
    found = ((name, state.provisiond.get(name, "")) for name in _STEPS)
    return ((name, value) for name, value in found if value.isascii() and value.isdigit())


def _queue(reports: list[Report]) -> dict[str, object]:
    """Down if any report says so, since the latest change."""
    down = any(report.link == "down" for report in reports)
    link = "down" if down else "up"
    since = [report.since for report in reports if report.link == link and report.since]
    return {"link": link, "since": max(since, default=None)}


def _jobs(reports: list[Report]) -> dict[str, object] | None:
    sums = {
        name: [count for report in reports if (count := getattr(report, name)) is not None]
        for name in ("done", "failed")
    }
    found = {name: sum(counts) if counts else None for name, counts in sums.items()}
    return found if any(sums.values()) else None


def _own_lines(state: HostState, page: dict[str, Any]) -> Iterable[Line]:
    """The two events of each boot: the reset and the end of provisiond."""
    if state.verdict and state.reset_at:
        name, seconds = state.verdict.name, state.verdict.reset_seconds
        text = f"reset: {name}" + (f" in {seconds:.1f} s" if seconds else "")
        level = "error" if name == "failed" else "info"
        yield Line(int(state.reset_at.timestamp()), level, text)
    ended = page["provisiond"]
    if "finished" in ended:
        level = "error" if ended["state"] == "failed" else "info"
        yield Line(ended["finished"], level, f"provisiond: {ended['state']}")


def _time(line: Line) -> int:
    return line.time


if __name__ == "__main__":
    main()
