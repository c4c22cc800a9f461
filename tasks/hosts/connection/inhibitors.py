"""Programs that have asked systemd to block shutdowns, as ``systemd-inhibit --list`` has them."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

# systemd-inhibit prints a table, in which who and why are free text.
LIST = (
    "busctl --json=short call org.freedesktop.login1 /org/freedesktop/login1 "
    "org.freedesktop.login1.Manager ListInhibitors || true"
)
"""Prints them in JSON; nothing, where there is no such list."""


class _Reply(BaseModel):
    """See org.freedesktop.login1(5): what, who, why, mode, the user's ID, the process's."""

    data: tuple[tuple[tuple[str, str, str, str, int, int], ...]]


def blockers(listed: str) -> list[str]:
    """Who blocks a reboot and why, from what ``LIST`` printed; none if that is no list.

    The mode ``delay`` only delays it, and ``block-weak`` does not hold root.
    """
    try:
        [rows] = _Reply.model_validate_json(listed).data
    except ValidationError:
        return []  # if something blocks it, systemd itself will say so
    return [
        f"{who} (process {process}): {why}"
        for what, who, why, mode, _, process in rows
        if mode == "block" and "shutdown" in what.split(":")
    ]
