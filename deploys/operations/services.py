"""Have a unit start at boot, on a host that may not be running systemd now."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.onbox import LinkTarget


@operation()
def enabled(unit: str, target: str = "multi-user.target") -> Generator[StringCommand, None, None]:
    """Have ``unit``, which ``target`` wants, start at boot; nothing is started now.

    Works in a chroot as well: only links are read and made.
    """
    if not host.get_fact(LinkTarget, path=f"/etc/systemd/system/{target}.wants/{unit}"):
        yield StringCommand("systemctl", "enable", "--quiet", shlex.quote(unit))


@operation()
def reloaded(units: Sequence[str]) -> Generator[StringCommand, None, None]:
    """Have a systemd that runs now read its files again, and those of ``units`` that run."""
    reload = shlex.join(("systemctl", "try-reload-or-restart", *units)) if units else ":"
    yield StringCommand(
        f"if [ -d /run/systemd/system ]; then systemctl daemon-reload && {reload}; fi"
    )


@operation()
def masked(units: Sequence[str]) -> Generator[StringCommand, None, None]:
    """Have none of ``units`` ever start; one that runs now goes on."""
    targets = {
        unit: host.get_fact(LinkTarget, path=f"/etc/systemd/system/{unit}") for unit in units
    }
    missing = [unit for unit, target in targets.items() if target != "/dev/null"]
    if missing:
        yield StringCommand("systemctl", "mask", "--quiet", *map(shlex.quote, missing))
