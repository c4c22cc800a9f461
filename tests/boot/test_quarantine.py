"""A box that has no room for its snapshot is reached over SSH, is red, and gives up trying."""

from __future__ import annotations

import pytest

from deploys.facts import status
from tests.boot.box import Box

pytestmark = pytest.mark.long

SCHEDULED = "/run/systemd/shutdown/scheduled"


def until(command: str) -> str:
    """A command that waits in the box until another succeeds."""
    return f"timeout 400 sh -c 'until {command}; do sleep 1; done'"


def test_the_third_failure_in_a_row_stays_up(box: Box) -> None:
    box.reboot("maintenance")
    box.succeed("lvremove --yes vagrant-pipeline/root_snap")
    box.succeed("lvcreate --name other --extents 100%FREE vagrant-pipeline")
    for _ in range(2):
        box.reboot("resnap")
        assert box.verdict.name == "failed"
        assert box.verdict.reason
        # within the minute that it leaves us
        box.succeed(until(f"test -e {SCHEDULED}"))
    box.reboot("resnap")
    box.succeed(until("systemctl is-failed resnap-quarantine"))
    box.fail(f"test -e {SCHEDULED}")
    assert status.mode(box.state) == "quarantine"
    box.succeed("test -s /run/resnap/quarantine")
    box.succeed("journalctl --unit resnap-quarantine | grep 'when that is mended'")
    box.succeed("lvremove --yes vagrant-pipeline/other")
    box.reboot("resnap")
    assert box.verdict.name == "fresh"
    box.fail("test -e /persistent/log/failed-resets")
