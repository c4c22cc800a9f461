"""Programs that have asked systemd to block shutdowns."""

from __future__ import annotations

import re

LIST = "systemd-inhibit --list --no-legend || true"
"""Prints them, a line each; none where nothing keeps such a list."""

# WHO UID USER PID COMM WHAT WHY MODE. Who and why are free text.
_ROW = re.compile(r"(.*?) +\d+ +\S+ +(\d+) +(\S+) +(\S+) +(.*?) +(\S+)")


def blockers(listed: str) -> list[str]:
    """Who blocks a reboot and why, from what ``LIST`` printed.

    The mode ``delay`` only delays it, and ``block-weak`` does not hold root.
    """
    rows = (_ROW.fullmatch(line.strip()) for line in listed.splitlines())
    return [
        f"{who} ({program}, process {process}): {why}"
        for who, process, program, what, why, mode in (row.groups() for row in rows if row)
        if mode == "block" and "shutdown" in what.split(":")
    ]
