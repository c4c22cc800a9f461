"""The functions that the scripts of a box share, run by the shells that run them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploys.facts.host_state import VERDICTS
from deploys.facts.mapper import mapper_name
from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import came_out

LIBRARY = ONBOX / "usr/lib/resnap/lib.sh"
# busybox's and klibc's are those of an initramfs
SHELLS = [
    argv
    for argv in (["dash"], ["busybox", "sh"], ["/usr/lib/klibc/bin/sh"])
    if shutil.which(argv[0])
]

pytestmark = pytest.mark.commands


def run(shell: list[str], script: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A script with the library read in, and no program on its PATH."""
    return subprocess.run(
        [str(shutil.which(shell[0])), *shell[1:], "-euc", f'. "$0"; {script}', LIBRARY],
        env={"PATH": "/nowhere", "PIPELINE_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda argv: argv[0].rpartition("/")[2])
@pytest.mark.parametrize(
    ("group", "volume"),
    [
        ("vagrant-pipeline", "root_snap"),
        ("a", "b"),
        ("-a--b-", "c-"),
        ("a.b+c", "d_e-f"),
        ("--", "-"),
    ],
)
def test_the_shell_names_volumes_as_python_does(
    shell: list[str], group: str, volume: str, tmp_path: Path
) -> None:
    done = run(shell, f"mapper_name '{group}' '{volume}'", tmp_path)
    assert (done.stdout, done.stderr) == (f"{mapper_name(group, volume)}\n", "")


@pytest.mark.parametrize("verdict", [*VERDICTS, None])
def test_a_snapshot_and_a_failed_reset_are_told(verdict: str | None, tmp_path: Path) -> None:
    if verdict:
        came_out(tmp_path, verdict)
    said = [
        run(["dash"], f"{name} && echo yes || echo no", tmp_path).stdout
        for name in ("in_snapshot", "reset_failed")
    ]
    in_snapshot = verdict is not None and VERDICTS[verdict].mode == "snapshot"
    assert said == ["yes\n" if each else "no\n" for each in (in_snapshot, verdict == "failed")]
