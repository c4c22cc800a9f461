"""What is said of a Test that asks for kim-tools or AFLOW where these are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kimpipeline.kim.outside import missing
from kimpipeline.run.pair import run_test
from kimpipeline.run.sandbox.confined import Sandbox
from tests.pipeline import world

TOOLS = "from kim_tools import KIMTestDriver\n"
CRYSTAL = "from kim_tools import SingleCrystalTestDriver\n"
NO_TOOLS = "imports kim_tools, which is not installed here, see stack.kim-tools"
NO_AFLOW = "asks for AFLOW, which is not installed here"


@pytest.mark.parametrize(
    ("text", "has", "expected"),
    [
        (TOOLS, (), NO_TOOLS),
        ("  import kim_tools.test_driver\n", (), NO_TOOLS),
        (TOOLS, ("usr/lib/python3/dist-packages/kim_tools",), ""),
        (TOOLS, ("usr/local/lib/python3.13/dist-packages/kim_tools",), ""),
        (CRYSTAL, ("usr/lib/python3/dist-packages/kim_tools",), NO_AFLOW),
        (CRYSTAL, ("usr/lib/python3/dist-packages/kim_tools", "usr/bin/aflow"), ""),
        (CRYSTAL, (), f"{NO_TOOLS}; {world.DRIVER} {NO_AFLOW}"),
        ("import kimvv\n", (), "imports kimvv, which is not installed here"),
        ("# import kim_tools, or AFLOW\nimport kim_tools_of_ours\n", (), ""),
    ],
)
def test_what_is_not_here_is_named(
    text: str, has: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    driver = world.repository(tmp_path / "items").get(world.DRIVER)
    (driver.path / "test_driver.py").write_text(text)
    for name in has:
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o755)
    assert missing([driver], tmp_path / "root") == (
        f"{world.DRIVER} {expected}" if expected else ""
    )


def test_a_program_that_fails_for_want_of_it_says_so(place: Path, sandbox: Sandbox) -> None:
    """Whatever the program says; one that does without is not held up."""
    items = world.repository(place / "items", f'read -r it; "$it" && {world.GOOD}')
    runner = items.get(world.DRIVER).runner
    runner.write_text("#!/usr/bin/python3\nimport kim_tools\n")
    (place / "scratch").mkdir()
    done = run_test(world.pair(items), place / "scratch", sandbox, world.LIMITS)
    assert done.fault == f"failed with exit code 1: {world.DRIVER} {NO_TOOLS}"
    runner.write_text("#!/usr/bin/python3\ntry:\n  import kim_tools\nexcept ImportError:\n  pass\n")
    (place / "again").mkdir()
    assert run_test(world.pair(items), place / "again", sandbox, world.LIMITS).fault == ""
