"""A host with one disk becomes a box in a file, in the usual run: by BIOS, on ext4.

What else holds for such a box is test_in_file.py's. The tests are one walk, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from deploys.errors import DeployError
from deploys.facts.status import faults
from deploys.operations.root import FILE, HOST
from tasks.desk.flags import load
from tasks.desk.progress import HostProgress
from tasks.guests import bare
from tasks.hosts.provision import Request
from tests.boot.conftest import Start
from tests.boot.hosts.test_in_file import ONE_DISK, SETTINGS, SNAPSHOT, fab, root_of
from tests.boot.lab.box import Box, flags, home_that_knows
from tests.boot.reset.test_rollback import (
    BROKEN_INITRD,
    Breaking,
    environment,
    files_of_boot,
    volumes,
)


@pytest.fixture(scope="module")
def box(start: Start, shared: Path) -> Iterator[Box]:
    with start(bare.build(ONE_DISK, shared)) as host:
        yield host


def test_it_becomes_a_box(box: Box, tmp_path: Path) -> None:
    """By `fab`, as a user does it."""
    ran = fab(box, home_that_knows(box, tmp_path), "provision", *flags(SETTINGS))
    assert ran.code == 0, ran.stderr
    assert (box.verdict.name, box.state.initrd_matches) == ("fresh", True)
    assert root_of(box) == SNAPSHOT
    assert box.state.defaults["VOLFILE"] == FILE
    assert box.succeed(f"ls -A {HOST}/pipeline").split() == ["boot", "box.img"]


def test_a_reset_takes_all_but_persistent(box: Box) -> None:
    box.succeed("touch /etc/of-this-snapshot /persistent/stays")
    box.reboot()
    assert (box.verdict.name, root_of(box)) == ("fresh", SNAPSHOT)
    box.fail("test -e /etc/of-this-snapshot")
    box.succeed("test -e /persistent/stays")


def test_the_hosts_root_is_out_of_reach(box: Box) -> None:
    """Of all but root; a worker, which is root, can write nothing there."""
    box.succeed(f"test -e {HOST}/etc/fstab")
    box.fail(f"setpriv --reuid=nobody --clear-groups ls {HOST}")
    confined = "systemd-run --quiet --wait --property=ProtectSystem=strict"
    box.fail(f"{confined} touch {HOST}/etc/of-a-worker")
    box.fail(f"test -e {HOST}/etc/of-a-worker")


@pytest.mark.long
def test_a_change_that_never_comes_up_goes_back_with_its_boot_files(box: Box) -> None:
    """GRUB counts the boots in a block on the host's own filesystem."""
    manifest, before = box.state.release["MANIFEST"], files_of_boot(box)
    settings = load(overrides=(*SETTINGS, "jobs.seconds=1800"))
    progress = HostProgress("box", Progress(disable=True))
    provision = Breaking(box.host, settings, Request(), progress)
    provision.bad = BROKEN_INITRD
    why = "none of its boots came up healthy"
    with pytest.raises(DeployError, match=f"the change was rolled back: {why}"):
        provision.run()
    assert (box.verdict.name, box.state.initrd_matches) == ("fresh", True)
    assert why in "\n".join(faults(box.state))
    assert (box.state.release["MANIFEST"], files_of_boot(box)) == (manifest, before)
    box.fail("test -e /etc/of-the-bad-change")
    assert "trial" not in environment(box)
    assert "root_safety" not in volumes(box)
    assert not box.provision(*SETTINGS).changed


def test_the_old_system_boots(box: Box) -> None:
    """Of its files test_in_file.py compares each."""
    assert box.reboot("old-root").verdict is None
    assert root_of(box) == "/dev/vda1"
