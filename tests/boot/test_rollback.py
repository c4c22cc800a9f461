"""A changed golden root is tried before it is kept; one that does not come up healthy goes back.

One walk, in order: each test goes on from the boot that the last one ended in.
"""

from __future__ import annotations

import pytest
from rich.progress import Progress

from deploys.errors import DeployError
from deploys.facts.status import faults
from tasks.progress import HostProgress
from tasks.provisioning import Provision, Request
from tasks.settings import load
from tests.boot.box import SMALL, Box

# The initrds are made anew for it.
CHANGED = (*SMALL, "boot.deadline=61")
AGAIN = (*SMALL, "boot.deadline=62")
# The kernel finds no init in it: each boot ends in a panic, before anything of the box runs.
BROKEN_INITRD = """for initrd in /boot/initrd.img-*; do
    rm "$initrd" && head -c 1000000 /dev/zero >"$initrd"
done"""
NO_SSHD = "mv /usr/sbin/sshd /usr/sbin/sshd.gone"


class Breaking(Provision):
    """A provision whose change is bad, which no check of the golden root finds."""

    bad = ""

    def _check_health(self) -> None:
        super()._check_health()
        self._host.run(f"touch /etc/of-the-bad-change; {self.bad}")


def provision_badly(box: Box, bad: str) -> None:
    """A change that is rolled back, and does not come to the box's mouth as a success."""
    progress = HostProgress("box", Progress(disable=True))
    provision = Breaking(box.host, load(overrides=AGAIN), Request(), progress)
    provision.bad = bad
    provision.run()


def volumes(box: Box) -> dict[str, int]:
    """The sizes of the volumes, in bytes."""
    words = "lvs --noheadings --units b --nosuffix --options lv_name,lv_size vagrant-pipeline"
    rows = (line.split() for line in box.succeed(words).splitlines())
    return {name: int(size) for name, size in rows}


def environment(box: Box) -> str:
    return box.succeed("unshare --mount sh -c 'mount /boot && cat /boot/grub/grubenv'")


def files_of_boot(box: Box) -> str:
    """What is in /boot, and the sums of what is started."""
    words = "find . -type f ! -name grubenv -exec sha256sum {} + | sort -k 2"
    return box.succeed(f"unshare --mount sh -c 'mount /boot && cd /boot && {words}'")


def test_a_change_that_comes_up_healthy_is_kept(box: Box) -> None:
    sizes, before = volumes(box), files_of_boot(box)
    assert box.provision(*CHANGED).changed
    state = box.state
    assert (state.verdict and state.verdict.name, state.in_trial) == ("fresh", False)
    assert state.rolled_back is None
    assert volumes(box) == sizes
    assert "trial" not in environment(box)
    assert files_of_boot(box) != before
    assert "safety" not in files_of_boot(box)
    assert not box.provision(*CHANGED).changed


def test_one_that_never_comes_up_goes_back_with_its_boot_files(box: Box) -> None:
    manifest, before = box.state.release["MANIFEST"], files_of_boot(box)
    why = "the change was rolled back: none of its boots came up healthy"
    with pytest.raises(DeployError, match=why):
        provision_badly(box, BROKEN_INITRD)
    assert_as_before(box, manifest, before)
    assert why.removeprefix("the change was ") in "\n".join(faults(box.state))


def test_one_that_locks_us_out_goes_back(box: Box) -> None:
    manifest, before = box.state.release["MANIFEST"], files_of_boot(box)
    with pytest.raises(DeployError, match="rolled back: SSH does not answer"):
        provision_badly(box, NO_SSHD)
    assert_as_before(box, manifest, before)


def assert_as_before(box: Box, manifest: str, boot: str) -> None:
    assert box.verdict.name == "fresh"
    assert box.state.initrd_matches
    box.fail("test -e /etc/of-the-bad-change")
    assert box.state.release["MANIFEST"] == manifest
    assert files_of_boot(box) == boot
    assert "trial" not in environment(box)
    assert "root_safety" not in volumes(box)
    assert not box.provision(*CHANGED).changed
