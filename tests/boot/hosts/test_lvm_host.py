"""A host whose root is on LVM already becomes a box, in the volume group it has.

Here that has no room (kind c): it is refused in one line, then extended by a disk. It has what
hosts gather over the years. The tests are one walk, in order.
"""

from collections.abc import Iterator

import pytest

from deploys.errors import PreflightError
from tasks.guests import bare
from tests.boot.conftest import GIB, Start
from tests.boot.lab.box import Box, becomes_a_box
from tests.boot.lab.recipes import GATHERED, PASSWORD

# That such a host becomes a box over SSH is test_uefi's; what the box then is, test_built_box's.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def box(start: Start, full_image: bare.BaseImage) -> Iterator[Box]:
    with start(full_image, spare=12 * GIB) as host:
        assert host.state.verdict is None, "a bare host left a verdict"
        yield host


def test_without_room_it_is_refused(box: Box) -> None:
    before = box.succeed("lvs --noheadings; cat /etc/fstab")
    with pytest.raises(PreflightError, match="--device"):
        box.provision()
    assert box.succeed("lvs --noheadings; cat /etc/fstab") == before


def test_it_is_extended_by_a_disk(box: Box) -> None:
    box.succeed(GATHERED + PASSWORD)
    assert box.provision(device="/dev/vdb").changed
    volumes = box.succeed("pvs --noheadings --options pv_name,vg_name").split()
    assert volumes.count("debian-vg") == 2


def test_boots_into_a_fresh_snapshot_of_the_hosts_own_volume_group(box: Box) -> None:
    assert box.verdict.name == "fresh"
    assert box.state.defaults["VOLGROUP"] == "debian-vg"
    root = box.succeed("findmnt --noheadings --output SOURCE /").strip()
    assert root == "/dev/mapper/debian--vg-root_snap"
    assert box.state.initrd_matches


def test_no_boot_waited_for_a_swap_that_is_gone(box: Box) -> None:
    said = box.guest.console.text()
    assert "resnap: verdict: fresh" in said
    assert "suspend/resume device" not in said


def test_boot_partition_is_out_of_the_snapshots_reach(box: Box) -> None:
    box.fail("mountpoint -q /boot")
    box.succeed("mountpoint -q /persistent")


def test_nothing_upgrades_the_snapshot(box: Box) -> None:
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        box.fail(f"systemctl is-active {timer}")
        assert box.succeed(f"systemctl is-enabled {timer} || :").strip() == "masked"


def test_nothing_to_change_does_not_reboot(box: Box) -> None:
    before = box.state
    assert not box.provision().changed
    assert box.state.boot_id == before.boot_id


def test_second_kernel_and_a_snapshot_that_is_gone(box: Box) -> None:
    """One walk, as each boot is a minute: golden root, another kernel, a snapshot gone."""
    state = box.reboot("maintenance")
    assert state.verdict is not None
    assert state.verdict.name == "golden"
    box.succeed("mountpoint -q /boot")
    running = state.kernel
    box.succeed("lvremove --yes debian-vg/root_snap")
    box.succeed("apt-get -q update")
    # Like the one it has: all the generic kernel's modules would be minutes of emulation.
    kernel = box.succeed(
        "apt-cache pkgnames linux-image- | grep -E '^linux-image-[0-9].*-cloud-amd64$' | "
        f"grep -vF {running} | sort -V | tail -n 1"
    ).strip()
    box.succeed(
        f"env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends {kernel}"
    )
    # The one it has is newer: without an initrd it is no candidate.
    box.succeed(f"rm /boot/initrd.img-{running}")
    box.succeed("update-grub")

    # There is no snapshot to keep: one is made, and no one is told that it was kept.
    state = box.reboot("keep")
    assert state.verdict is not None
    assert (state.verdict.name, state.verdict.reason) == (
        "fresh",
        "there was no good snapshot to keep",
    )
    assert kernel == f"linux-image-{state.kernel}"
    assert state.initrd_matches


def test_with_room_it_needs_no_disk(start: Start, lvm_image: bare.BaseImage) -> None:
    """Kind b."""
    with start(lvm_image) as host:
        becomes_a_box(host)
