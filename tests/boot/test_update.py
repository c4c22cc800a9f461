"""A box is brought up to date: through maintenance, and back as it was when that fails."""

import pytest

from deploys.errors import DeployError
from tests.boot.box import LEAN, Box


def test_update_that_fails_is_merged_back(box: Box) -> None:
    manifest = box.state.release["MANIFEST"]
    with pytest.raises(DeployError, match="no-such-package"):
        box.provision(*LEAN[:1], "stack.packages=no-such-package")
    assert box.verdict.name == "fresh"
    assert box.state.release["MANIFEST"] == manifest
    volumes = box.succeed("lvs --noheadings --options lv_name debian-vg").split()
    assert sorted(volumes) == ["persistent", "root", "root_snap"]
    assert not box.provision().changed


def test_power_cut_in_maintenance_is_merged_back(box: Box) -> None:
    box.reboot("maintenance")
    box.succeed("lvremove --yes debian-vg/root_snap")
    box.succeed(
        "lvcreate --yes --snapshot --chunksize 64K --extents 100%ORIGIN "
        "--name root_safety debian-vg/root"
    )
    box.succeed("touch /etc/half-done")
    box.succeed("sync")
    box.guest.reset()
    box.host.close()
    box.host.wait(600)
    assert box.verdict.name == "fresh"
    box.fail("test -e /etc/half-done")
