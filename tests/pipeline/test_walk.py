"""The walk of docs/kim-items.md: each command that is typed on a box, in its order, for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploys.services.runner import COMMANDS
from kimpipeline.kim import edn
from tests.pipeline import world

PAGE = Path(__file__).parents[2] / "docs/kim-items.md"
PIPELINE = Path(__file__).parents[2] / "static/pipeline"


def _typed() -> list[str]:
    """The lines of the page's section on a devel box, but those for the desk."""
    section = PAGE.read_text().split("## On a devel box")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if not line.startswith("bin/")]


@pytest.fixture
def environment(place: Path) -> dict[str, str]:
    """A box's commands, for items and work in folders of the test's own; the items lie at hand."""
    shutil.copytree(Path(__file__).parent / "kim/items", place / "desk")
    (place / "bin").mkdir()
    for name, function in COMMANDS.items():
        code = f"import sys; from kimpipeline.commands import {function} as it; sys.exit(it())"
        world.program(place / "bin" / name, f"exec '{sys.executable}' -c '{code}' \"$@\"")
    (place / "pipeline.toml").write_text(
        f'sandbox = "bubblewrap"\n[folders]\nitems = "{place}/items"\nwork = "{place}/work"\n'
    )
    return {
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(PIPELINE),
        "KIMPIPELINE_SETTINGS": str(place / "pipeline.toml"),
    }


@pytest.mark.slow
def test_every_command_of_the_walk_runs(place: Path, environment: dict[str, str]) -> None:
    said = {}
    for line in _typed():
        done = subprocess.run(
            ["bash", "-ec", line],
            cwd=place / "desk",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        said[line.partition(" #")[0].rstrip()] = done.stdout
    assert len(said) > 8
    test, model = "Reach_Al__TE_000000000964_000", "Reach_Al__MO_000000000962_000"
    assert said["pipeline-verify TE_000000000964"] == f"{test}: good\n"
    assert said["pipeline-verify MO_000000000962"] == f"{model}: good\n"
    assert said["pipeline-run-matches --list TE_000000000964"] == f"{test} {model}\n"
    (results,) = (place / "desk/results").glob("*/results.edn")
    assert edn.read(results)["reach"]["si-value"] == pytest.approx(4.5e-10)
    assert not (place / "items" / test).exists()
