"""What a reset adds to a boot, after nothing and after 1 GB was written since the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from deploys.errors import BoxError
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect, reboot_deadline
from tests.bench.shared.guest import running_host, script
from tests.bench.shared.rows import Row, Step, Target

_SHARE = Target(high=0.05)
_ALIKE = Target(low=0.8, high=1.2)
_WRITE = """
file=/var/tmp/bench
dd if=/dev/urandom of=$file bs=1M count=1000 conv=fsync status=none
stat -c %s $file
"""
_GIGABYTE = 10**9
_BOOTS = 3  # of each kind: one boot differs from the next by more than the target allows
_BOOT_END = "systemctl show --property=FinishTimestampMonotonic --value"


@dataclass(frozen=True)
class Boot:
    """A boot in seconds of the kernel's own clock: the reset in it, and all of it."""

    reset: float
    whole: float


def resnap(step: Step) -> list[Row]:
    """The reset's share of a boot, and how it depends on what was written.

    Raises:
        BoxError: no guest runs, or it did not come back fresh.
    """
    with running_host() as host:
        step("resetting, for a snapshot that nothing was written to")
        _boot(host)
        idle, busy = [], []
        # In turns: a machine that slows down meanwhile slows both down.
        for number in range(1, _BOOTS + 1):
            step(f"resetting after nothing was written, {number} of {_BOOTS}")
            idle.append(_boot(host))
            step(f"writing 1 GB, and resetting, {number} of {_BOOTS}")
            _write(host)
            busy.append(_boot(host))
    return rows(middle(idle), middle(busy))


def middle(boots: Sequence[Boot]) -> Boot:
    """The medians of several boots."""
    return Boot(median(boot.reset for boot in boots), median(boot.whole for boot in boots))


def rows(idle: Boot, busy: Boot) -> list[Row]:
    """Two boots as they are judged."""
    return [
        Row("reset in a boot, nothing written", "s", idle.reset, idle.whole, _SHARE),
        Row("reset in a boot, 1 GB written", "s", busy.reset, busy.whole, _SHARE),
        Row("reset, 1 GB written beside nothing", "s", busy.reset, idle.reset, _ALIKE),
    ]


def _write(host: Host) -> None:
    written = int(script(host, _WRITE))
    if written < _GIGABYTE:
        raise BoxError(f"{host.name}: {written} bytes were written, not 1 GB")


def _boot(host: Host) -> Boot:
    state = host.reboot("resnap", reboot_deadline(host))
    expect(host, state, "fresh")
    verdict = state.verdict
    if verdict is None or verdict.started is None or verdict.finished is None:
        raise BoxError(f"{host.name}: the verdict of the boot has no times")
    # Ends when all that the boot starts was started; a unit that failed is not our subject.
    host.run("timeout 300 systemctl is-system-running --wait || test $? -ne 124")
    whole = int(host.run(_BOOT_END)) / 1e6
    if not whole:
        raise BoxError(f"{host.name}: the boot did not end")
    return Boot(verdict.finished - verdict.started, whole)
