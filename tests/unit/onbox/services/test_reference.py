"""The reference calculation: one line, and both ways to the KIM API agree on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/pipeline/reference"
KNOWN = "a = 5.430950 A, E = -4.336400 eV/atom"
OTHER = "a = 5.430951 A, E = -4.336400 eV/atom"

pytestmark = pytest.mark.commands


def run(root: Path, lammps: str, ase: str | None) -> subprocess.CompletedProcess[str]:
    """Run it on a fake box whose programs say this; ``ase`` None: it has no kimpy."""
    if ase is not None:
        (root / "usr/lib/python3/dist-packages/kimpy").mkdir(parents=True)
    box = FakeRoot(root)
    for name, said in (("lmp", lammps), ("python3", ase or "")):
        box.tool(name, f"echo '{said}'")
    return box.run(SCRIPT)


@pytest.mark.parametrize("ase", [KNOWN, None])
def test_the_known_result_is_the_only_line(ase: str | None, tmp_path: Path) -> None:
    done = run(tmp_path, KNOWN, ase)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{KNOWN}\n", "")


@pytest.mark.parametrize(
    ("lammps", "ase", "who"), [(OTHER, KNOWN, "LAMMPS"), (KNOWN, OTHER, "ASE"), (KNOWN, "", "ASE")]
)
def test_a_difference_in_the_last_place_is_an_error(
    lammps: str, ase: str, who: str, tmp_path: Path
) -> None:
    done = run(tmp_path, lammps, ase)
    assert done.returncode == 1
    assert done.stderr.startswith(f"reference: {who} gave ")
