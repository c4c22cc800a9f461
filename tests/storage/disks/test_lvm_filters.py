"""What LVM's filters hide: what provision works out beforehand is what the real LVM then does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.errors import PreflightError
from deploys.facts.disks import Links
from deploys.facts.lvm import LvmConfigured
from deploys.operations import disks
from deploys.plan.preflight import plan_volumes
from deploys.plan.survey import Device
from deploys.session import Session
from deploys.settings import GIB, Volumes
from tests.storage.conftest import LVM_CONF
from tests.storage.disks.test_volumes import HERE, LAYOUT, apply
from tests.unit.deploys.plan.survey_builder import disk, plain_host

# LVM looks at every loop device where a filter lets it, those of tests beside this one too.
pytestmark = pytest.mark.long

# Each with the name of the setting that hides the third partition; {loop} is the disk.
FILTERS = {
    "none": ("", ""),
    "all": ('filter = ["a|.*|"]', ""),
    "this one": ('filter = ["r|^{loop}|"]', "filter"),
    "all others": ('filter = ["a|^/dev/sd|", "r|.*|"]', "filter"),
    "the first that fits counts": ('filter = ["a|^{loop}p[0-9]+$|", "r|.*|"]', ""),
    "a name, where another is taken": ('filter = ["a|/by-id/|", "r|^{loop}|"]', ""),
    "of its partitions one, by each name": ('filter = ["r|[0-9a-z]p3$|"]', "filter"),
    "another delimiter": ('filter = [ "r/loop.*p[23]/" ]', "filter"),
    "a quote": (r'filter = ["r|\"|", "a|.*|"]', ""),
    "for all": ('global_filter = ["r|^{loop}p3$|"]', "global_filter"),
    "one pattern": ('global_filter = "r|{loop}p|"', "global_filter"),
    "by a link": ('filter = ["a|/by-id/test-part3$|", "r|.*|"]', ""),
    "a devices file, which counts alone": (
        'filter = ["r|.*|"]\nuse_devicesfile = 1\ndevicesfile = "test.devices"',
        "",
    ),
    "a devices file that is not there": (
        'filter = ["r|.*|"]\nuse_devicesfile = 1\ndevicesfile = "absent.devices"',
        "filter",
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_what_a_filter_hides_is_known_before_the_disk_is_partitioned(
    loop_disk: str, name: str
) -> None:
    written, hidden_by = FILTERS[name]
    folder = Path(os.environ["LVM_SYSTEM_DIR"])
    (folder / "devices").mkdir()
    (folder / "devices/test.devices").write_text("VERSION=1.1.1\n")
    conf = LVM_CONF.format(loop=loop_disk).splitlines()
    lines = [line for line in conf if "filter" not in line and "use_devicesfile" not in line]
    own = written.replace("{loop}", loop_disk)
    (folder / "lvm.conf").write_text("\n".join(lines).replace("devices {", f"devices {{\n{own}"))
    link = Path("/dev/disk/by-id/test")
    with Session(HERE) as session:
        config = session.fact(LvmConfigured)
        links = session.fact(Links, device=loop_disk)
    has_link = "by-id" in written
    survey = replace(
        plain_host(disk(loop_disk, 24 * GIB), device=loop_disk),
        device=Device(loop_disk, loop_disk, links=(*links, *([str(link)] if has_link else []))),
        lvm_config=config,
    )
    if hidden_by:
        with pytest.raises(PreflightError, match=f"{loop_disk}p3: {hidden_by} in lvm.conf"):
            plan_volumes(survey, Volumes())
    else:
        assert plan_volumes(survey, Volumes()).device == loop_disk

    def partition_it() -> None:
        disks.partition(device=loop_disk, layout=LAYOUT)

    apply(partition_it)
    partition = f"{loop_disk}p3"
    with linked(partition, f"{link}-part3") if has_link else contextlib.nullcontext():
        done = subprocess.run(["pvcreate", partition], capture_output=True, check=False)
    assert (done.returncode != 0) == bool(hidden_by), done.stderr


@contextlib.contextmanager
def linked(device: str, name: str) -> Iterator[None]:
    """Another name for a device, as udev gives it."""
    folder = Path(name).parent
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(device)
    try:
        with Session(HERE) as session:
            assert name in session.fact(Links, device=device)
        yield
    finally:
        Path(name).unlink()
        if made:
            os.removedirs(folder)
