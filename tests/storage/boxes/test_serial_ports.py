"""Logins on serial ports that are none: the real systemd with the drop-in, in a container.

The kernel's word of the ports is a stand-in, as a container has none. Its systemd sees no udev, so
its copy of the unit waits for no device.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.storage.gateway.booted import Booted, booted
from tests.storage.gateway.gateway import layered

pytestmark = pytest.mark.boot  # of systemd, in a container

UNITS = "etc/systemd/system"
TEMPLATE = "serial-getty@.service"
DROP_IN = f"{UNITS}/{TEMPLATE}.d/machine.conf"
# The number of a port's type in the kernel's include/uapi/linux/serial_core.h: none, and 16550A.
PORTS = {"ttyS0": 0, "ttyS1": 4}
TERMINALS = """
import os, time
terminals = [os.openpty() for _ in range(2)]
print(*(os.ttyname(slave) for _, slave in terminals), file=open("/run/terminals", "w"), flush=True)
time.sleep(3600)
"""
MAKE = """
set -e
mount -t tmpfs ports /sys/class/tty
until read -r first second </run/terminals && [ -n "$second" ]; do sleep 0.1; done
touch /dev/ttyS0 /dev/ttyS1
mount --bind "$first" /dev/ttyS0
mount --bind "$second" /dev/ttyS1
"""


@pytest.fixture
def box(gateway_root: Path, tmp_path: Path) -> Iterator[Booted]:
    """A container with two serial ports, of which the first is none."""
    with layered(gateway_root, tmp_path) as root:
        unit = (root / "usr/lib/systemd/system" / TEMPLATE).read_text().splitlines(keepends=True)
        kept = [line for line in unit if not line.startswith(("BindsTo=dev-", "After=dev-"))]
        (root / UNITS / TEMPLATE).write_text("".join(kept))
        (root / DROP_IN).parent.mkdir(exist_ok=True)
        (root / DROP_IN).write_text((ONBOX / DROP_IN).read_text())
        with booted(root) as box:
            box.run("systemd-run", "--quiet", "python3", "-c", TERMINALS)
            box.run("bash", "-c", MAKE)
            for port, kind in PORTS.items():
                box.run("sh", "-c", f"cd /sys/class/tty; mkdir {port}; echo {kind} >{port}/type")
            yield box


def test_a_port_that_is_none_gets_no_login(box: Booted) -> None:
    units = [f"serial-getty@{port}.service" for port in PORTS]
    box.run("systemctl", "start", *units)
    # Until systemd has nothing else to do, at most 5 s, it counts such a unit as active.
    box.succeeds(f"! systemctl is-active --quiet {units[0]}")
    box.succeeds(f"journalctl -u {units[0]} | grep -qF \"Skipped due to 'exec-condition'\"")
    box.succeeds(f"grep -qx agetty /proc/$(systemctl show -P MainPID {units[1]})/comm")
    assert [box.property(unit, "NRestarts") for unit in units] == ["0", "0"]


def test_without_the_drop_in_it_gets_one(box: Booted) -> None:
    unit = "serial-getty@ttyS0.service"
    box.run("rm", f"/{DROP_IN}")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "start", unit)
    box.succeeds(f"grep -qx agetty /proc/$(systemctl show -P MainPID {unit})/comm")
