"""A host whose volume group has no room (kind c): refused in one line, or extended by a disk."""

from collections.abc import Iterator

import pytest

from deploys.errors import PreflightError
from tasks.guests import bare
from tests.boot.conftest import GIB, Start
from tests.boot.lab.box import LEAN, Box


@pytest.fixture(scope="module")
def host(start: Start, full_image: bare.BaseImage) -> Iterator[Box]:
    with start(full_image, spare=12 * GIB) as box:
        yield box


def test_is_refused_without_a_disk(host: Box) -> None:
    before = host.succeed("lvs --noheadings; cat /etc/fstab")
    with pytest.raises(PreflightError, match="--device"):
        host.provision(*LEAN)
    assert host.succeed("lvs --noheadings; cat /etc/fstab") == before


def test_is_extended_by_a_disk(host: Box) -> None:
    result = host.provision(*LEAN, device="/dev/vdb")
    assert result.state.verdict is not None
    assert result.state.verdict.name == "fresh"
    volumes = host.succeed("pvs --noheadings --options pv_name,vg_name").split()
    assert volumes.count("debian-vg") == 2
