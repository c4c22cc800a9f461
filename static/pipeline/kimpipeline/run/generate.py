"""Make the Tests of a Test Driver from its template, in a sandbox, as its author is not trusted."""

from __future__ import annotations

import os
from pathlib import Path

from kimpipeline.errors import ItemError, RunError
from kimpipeline.kim.items import Item, load
from kimpipeline.run import harvest, products
from kimpipeline.run.programs import run_program
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.settings import Limits


def tests_of(
    driver: Item, scratch: Path, sandbox: Sandbox, limits: Limits, version: int
) -> list[Item]:
    """Make the Tests of a Driver below a folder.

    Args:
        driver: has ``test_template`` and ``test_generator.json``.
        scratch: an empty folder.
        sandbox: runs the program that fills in the templates.
        limits: its limits.
        version: of the Tests, 0 to 999.

    Raises:
        ItemError: the Driver has no template, or it makes no Tests, or one that is not valid.
        SandboxError: this machine could not run it.
    """
    if not (driver.path / "test_template").is_dir():
        raise ItemError(f"{driver.kimid} has no test_template: it makes no Tests")
    room, made = sandbox.room(scratch), scratch / "made"
    products.copy(driver, room / driver.kimid)
    made.mkdir()
    (room / "output").mkdir()
    with Path(os.devnull).open("r+b") as nothing:
        words, files = (driver.kimid, f"{version:03}"), (nothing, nothing)
        complaints = scratch / "complaints"
        fault = run_program("generator", words, room, files, complaints, sandbox, limits)
    if fault:
        raise ItemError(f"{driver.kimid}: {fault}")
    try:
        harvest.collect(room, made, sandbox.user, limits.disk)
    except RunError as error:
        raise ItemError(f"{driver.kimid}: {error}") from error
    found = sorted(path for path in made.iterdir() if path.is_dir())
    if not found:
        raise ItemError(f"{driver.kimid}: test_generator.json has no line: it makes no Tests")
    for path in found:
        runner = path / "runner"
        if runner.is_file() and not runner.is_symlink():
            runner.chmod(0o755)
    return [load(path) for path in found]
