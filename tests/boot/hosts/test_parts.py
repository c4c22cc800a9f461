"""A box is changed to parts of the stack from git, which this machine compiles, and back.

The sources are stand-ins. The trees in which they are built are real, and so is Debian's KIM API
beside them on the box.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.settings.stack import package_name
from tests.boot.lab import rows
from tests.boot.lab.box import SMALL, Box
from tests.storage.stack.test_packages import KIM_API, LAMMPS, commit

pytestmark = pytest.mark.long

DEBIAN = "/usr/lib/x86_64-linux-gnu"
# The file that a program gets which loads the library, as ASE's kimpy and Debian's models do.
LOADED = """/usr/bin/python3 -c '
import ctypes
ctypes.CDLL("libkim-api.so.2")
print({line.split()[-1] for line in open("/proc/self/maps") if "libkim-api" in line}.pop())'"""


@pytest.fixture(scope="module")
def change(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rows.Change]:
    folder = tmp_path_factory.mktemp("served")
    commits = {
        **rows.write_pure(folder),
        "openkim-api": commit(folder / "openkim-api", KIM_API, "2.9.1"),
        "lammps": commit(folder / "lammps", LAMMPS, "of a commit"),
    }
    with rows.change(folder, commits, shared / "bundles") as made:
        yield made


def test_parts_of_commits_come_through_the_trial_and_take_debians_place(
    box: Box, change: rows.Change
) -> None:
    box.fail("lmp")
    assert box.provision(*SMALL, *change.settings).changed
    change.server.close()
    assert (box.verdict.name, box.state.in_trial, box.state.rolled_back) == ("fresh", False, None)
    rows.assert_has(box, change.commits)
    assert box.succeed("lmp") == "of a commit\n"
    models, source = box.succeed("kim-api-collections-management").splitlines()
    assert models == f"{DEBIAN}/kim-api/portable-models by 2.9.1"
    assert source == "./sources/program.cpp"
    assert box.succeed(LOADED).strip() == f"{DEBIAN}/libkim-api.so.2.9.1"
    box.fail("dpkg --status libkim-api2")
    versions = box.state.versions
    assert versions["pipeline-lammps"].startswith("20240829+pipeline.")
    assert versions["pipeline-openkim-api"].startswith("2.9.1+pipeline.")
    before = box.state.boot_id
    assert not box.provision(*SMALL, *change.settings).changed
    assert box.state.boot_id == before


def test_rows_that_say_apt_or_none_again_give_debians_back(box: Box) -> None:
    back = (*SMALL, "stack.openkim-api.source=apt")
    assert box.provision(*back).changed
    assert box.verdict.name == "fresh"
    box.fail("lmp")
    assert box.succeed(LOADED).startswith(f"{DEBIAN}/libkim-api.so.2")
    rows.assert_lacks_pure(box)
    for name in ("openkim-api", "lammps"):
        box.fail(f"dpkg --status {package_name(name)}")
    stack = json.loads(box.succeed("cat /etc/pipeline/manifest.json"))["stack"]
    assert list(stack["openkim-api"]["packages"]) == ["libkim-api2"]
    assert stack["lammps"] == {"source": "none"}
    assert not box.provision(*back).changed
