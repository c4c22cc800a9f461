"""Enable, disable, reload and mask units; systemd need not be running.

What starts at boot is read at boot, so that a systemd that runs need not read all its files anew
for each unit that is enabled; in an emulated guest that takes 2 s each.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.onbox import LinkTarget
from deploys.operations import Commands


@operation()
def enabled(unit: str, target: str = "multi-user.target") -> Commands:
    """Have ``unit``, which ``target`` wants, start at boot. It is not started now.

    This also works in a chroot, as it only reads and makes links.
    """
    if not host.get_fact(LinkTarget, path=f"/etc/systemd/system/{target}.wants/{unit}"):
        yield StringCommand("systemctl", "enable", "--no-reload", "--quiet", shlex.quote(unit))


@operation()
def disabled(unit: str, target: str) -> Commands:
    """Have ``unit`` not start at boot, if ``target`` wants it. It is not stopped now."""
    if host.get_fact(LinkTarget, path=f"/etc/systemd/system/{target}.wants/{unit}"):
        yield StringCommand("systemctl", "disable", "--no-reload", "--quiet", shlex.quote(unit))


@operation()
def reloaded(units: Sequence[str]) -> Commands:
    """Have systemd, if it runs, read its files again, and reload or restart running ``units``."""
    reload = shlex.join(("systemctl", "try-reload-or-restart", *units)) if units else ":"
    yield StringCommand(
        f"if [ -d /run/systemd/system ]; then systemctl daemon-reload && {reload}; fi"
    )


@operation()
def masked(units: Sequence[str]) -> Commands:
    """Have ``units`` never start. A unit that runs now goes on."""
    targets = {
        unit: host.get_fact(LinkTarget, path=f"/etc/systemd/system/{unit}") for unit in units
    }
    missing = [unit for unit, target in targets.items() if target != "/dev/null"]
    if missing:
        yield StringCommand("systemctl", "mask", "--quiet", *map(shlex.quote, missing))
