"""A bad change of a box in a file goes back by itself.

GRUB counts the boots in a block on the host's own filesystem, which is ext4 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from deploys.errors import DeployError
from deploys.facts.status import faults
from deploys.operations.root import FILE
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

pytestmark = pytest.mark.long


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


def test_a_change_that_never_comes_up_goes_back_with_its_boot_files(box: Box) -> None:
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
