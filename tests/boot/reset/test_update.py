"""A box is brought up to date: through maintenance, and back as it was when that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.errors import DeployError
from deploys.facts.status import faults
from tasks.hosts import versions
from tests.boot.conftest import StartBox
from tests.boot.lab.box import SMALL, Box, flags, home_that_knows, interrupted

# Unit tests hold a provision to its steps when one fails; that a box merges a change back, and what
# undoes it, is test_rollback's and test_cuts'.
pytestmark = pytest.mark.long


def repository(package: str) -> tuple[str, str]:
    """The settings that have this package in the place of the models."""
    row = "stack.openkim-repository"
    return f"{row}.source=apt", f"{row}.location={package}"


@pytest.fixture(scope="module")
def box(start_in_maintenance: StartBox) -> Iterator[Box]:
    """Where a provision takes a box that has something to change; see test_rollback."""
    with start_in_maintenance() as running_box:
        yield running_box


def test_update_that_fails_is_merged_back(box: Box) -> None:
    manifest = box.state.release["MANIFEST"]
    with pytest.raises(DeployError, match="no-such-package"):
        box.provision(*SMALL, *repository("no-such-package"))
    assert box.verdict.name == "fresh"
    assert box.state.release["MANIFEST"] == manifest
    volumes = box.succeed("lvs --noheadings --options lv_name vagrant-pipeline").split()
    assert sorted(volumes) == ["persistent", "root", "root_snap", "swap"]
    assert not box.provision().changed


def test_power_cut_in_maintenance_is_merged_back(box: Box) -> None:
    box.reboot("maintenance")
    box.succeed("lvremove --yes vagrant-pipeline/root_snap")
    box.succeed(
        "lvcreate --yes --snapshot --chunksize 64K --extents 100%ORIGIN "
        "--name root_safety vagrant-pipeline/root"
    )
    box.succeed("touch /etc/half-done")
    box.succeed("sync")
    box.guest.reset()
    box.host.close()
    box.host.wait(600)
    assert box.verdict.name == "fresh"
    box.fail("test -e /etc/half-done")


def test_a_first_provision_that_broke_off_is_taken_up_again(box: Box) -> None:
    """Its last step writes what the golden root is; what went before need not be there for that."""
    box.reboot("maintenance")
    box.succeed("rm /etc/pipeline-release")
    box.reboot()
    assert "the golden root is unfinished" in "\n".join(faults(box.state))
    assert box.provision().changed
    assert box.verdict.name == "fresh"
    assert faults(box.state) == []
    assert versions.versions(box.host) == []
    assert not box.provision().changed


def test_interrupted_update_is_merged_back(box: Box, tmp_path: Path) -> None:
    manifest = box.state.release["MANIFEST"]
    login = box.guest.login
    ran = interrupted(
        "fab",
        *("-i", str(login.key), "-H", f"{login.user}@{login.host}:{login.port}"),
        *("provision", *flags((*SMALL, *repository("ed")))),
        at="changing the golden root",
        state=tmp_path,
        home=home_that_knows(box, tmp_path),
    )
    assert "interrupted: every host can still boot" in ran.stderr
    assert ran.code == 130
    box.host.close()
    assert box.verdict.name == "golden"
    box.reboot()
    assert box.verdict.name == "fresh"
    assert box.state.release["MANIFEST"] == manifest
    box.fail("dpkg-query --show ed")
