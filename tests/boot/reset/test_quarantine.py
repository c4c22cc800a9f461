"""A box that has no room for its snapshot is reached over SSH, is red, and gives up trying."""

from __future__ import annotations

import contextlib

import pytest

from deploys.errors import BoxError
from deploys.facts import status
from tests.boot.lab.box import DEADLINE, Box

pytestmark = pytest.mark.long

SCHEDULED = "/run/systemd/shutdown/scheduled"


def until(command: str) -> str:
    """A command that waits in the box until another succeeds."""
    return f"timeout 400 sh -c 'until {command}; do sleep 1; done'"


def test_the_third_failure_in_a_row_stays_up(box: Box) -> None:
    box.reboot("maintenance")
    box.succeed("lvremove --yes vagrant-pipeline/root_snap")
    box.succeed("lvcreate --name other --extents 100%FREE vagrant-pipeline")
    console = box.guest.console
    since = console.size
    box.succeed("/usr/lib/resnap/next-boot resnap")
    with contextlib.suppress(BoxError):  # it goes down
        box.succeed("systemctl reboot")
    box.host.close()
    # nobody logs in: a minute after each of the first two it is down already
    for _ in range(3):
        box.guest.wait_for_serial("resnap: verdict: failed", 2 * DEADLINE, since)
        since = console.size
    box.host.wait(DEADLINE)
    box.succeed(until("systemctl is-failed resnap-quarantine"))
    assert box.succeed("cat /persistent/log/failed-resets").strip() == "3"
    assert box.verdict.name == "failed"
    assert "nsufficient" in box.verdict.reason
    box.fail(f"test -e {SCHEDULED}")
    assert status.mode(box.state) == "quarantine"
    box.succeed("test -s /run/resnap/quarantine")
    box.succeed("journalctl --unit resnap-quarantine | grep 'when that is mended'")
    box.succeed("lvremove --yes vagrant-pipeline/other")
    box.reboot("resnap")
    assert box.verdict.name == "fresh"
    box.fail("test -e /persistent/log/failed-resets")
