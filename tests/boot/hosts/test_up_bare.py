"""`inv up --bare`: a plain host becomes a box, with a spare disk or in a file on its only one.

The tests are one walk, in order.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.settings import GIB
from tasks.hosts.fleet import connected
from tests.boot.lab.box import LEAN, Box, Ran, command, flags
from tests.hosts.guest import Guest

# Hundreds of packages by emulation; a plain host that has most of them is test_uefi's.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Path]:
    """A state folder of its own, as `inv up` has its guest in the shared one; same images."""
    folder = tmp_path_factory.mktemp("bare")
    (shared / "images").mkdir(exist_ok=True)
    (folder / "images").symlink_to(shared / "images")
    yield folder
    command("inv", "destroy", "--force", state=folder)


@pytest.fixture(scope="module")
def up(state: Path) -> Ran:
    return command("inv", "up", "--bare", *flags((*LEAN, "guest.cpus=1")), state=state)


@pytest.fixture(scope="module")
def box(up: Ran, state: Path) -> Box:
    assert up.code == 0, up.stderr
    guest = Guest.load(state / "guest")
    return Box(guest, connected(guest))


def test_root_is_a_fresh_snapshot_on_the_spare_disk(up: Ran, box: Box) -> None:
    assert "building the volumes" in up.stderr
    assert box.verdict.name == "fresh"
    root = box.succeed("findmnt --noheadings --output SOURCE /").strip()
    assert root == "/dev/mapper/vagrant--pipeline-root_snap"
    assert box.succeed("pvs --noheadings --options pv_name").split() == ["/dev/vdb3"]
    assert box.state.initrd_matches


def test_old_root_is_a_way_back(box: Box) -> None:
    box.reboot("old-root")
    assert box.succeed("findmnt --noheadings --output SOURCE /").strip() == "/dev/vda1"
    assert box.state.verdict is None
    assert box.reboot().verdict is not None


def test_old_root_is_reclaimed_when_that_is_forced(box: Box, state: Path) -> None:
    words = ("inv", "provision", "--reclaim", *flags(LEAN))
    refused = command(*words, state=state)
    assert refused.code == 1
    assert "--force" in refused.stderr
    box.host.close()
    ran = command(*words, "--force", state=state)
    assert ran.code == 0, ran.stderr
    volumes = box.succeed("pvs --noheadings --options pv_name,vg_name").split()
    assert volumes.count("vagrant-pipeline") == 2
    box.succeed("mount /dev/vdb2 /mnt")
    box.succeed("grep -q maintenance /mnt/grub/grub.cfg")
    box.fail("grep -q old-root /mnt/grub/grub.cfg")
    box.succeed("umount /mnt")


def test_with_one_disk_it_lies_in_a_file_and_is_given_back(box: Box, state: Path) -> None:
    box.host.close()
    words = ("inv", "up", "--bare", "--in-file", "8G", *flags((*LEAN, "guest.cpus=1")))
    refused = command(*words, state=state)
    assert refused.code == 1
    assert "inv destroy" in refused.stderr
    assert command("inv", "destroy", "--force", state=state).code == 0
    ran = command(*words, state=state)
    assert ran.code == 0, ran.stderr
    assert "building the volumes in /pipeline/box.img" in ran.stderr
    guest = Guest.load(state / "guest")
    one = Box(guest, connected(guest))
    assert one.verdict.name == "fresh"
    assert one.succeed("stat --format=%s /run/initramfs/host/pipeline/box.img").strip() == str(
        8 * GIB
    )
    one.host.close()
    assert command("inv", "unprovision", "--force", state=state).code == 0
    assert one.state.verdict is None
    one.fail("test -e /pipeline")
