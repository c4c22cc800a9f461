"""A box that has no room for its snapshot is reached over SSH, is red, and gives up trying."""

from __future__ import annotations

import pytest

from tests.boot.box import Box

pytestmark = pytest.mark.long

SCHEDULED = "/run/systemd/shutdown/scheduled"


def test_the_third_failure_in_a_row_stays_up(box: Box) -> None:
    assert box.reboot("maintenance").verdict
    box.succeed("lvremove --yes vagrant-pipeline/root_snap")
    box.succeed("lvcreate --name other --extents 100%FREE vagrant-pipeline")
    for number in (1, 2, 3):
        box.reboot("resnap")
        assert box.verdict.name == "failed"
        assert box.verdict.reason
        box.succeed("systemctl is-system-running --wait || :")  # until its unit is over
        box.succeed(f"test {'!' if number == 3 else ''} -e {SCHEDULED}")
    box.succeed("test -s /run/resnap/quarantine")
    box.succeed("journalctl --unit resnap-quarantine | grep 'when that is mended'")
    box.succeed("lvremove --yes vagrant-pipeline/other")
    box.reboot("resnap")
    assert box.verdict.name == "fresh"
    box.fail("test -e /persistent/log/failed-resets")
