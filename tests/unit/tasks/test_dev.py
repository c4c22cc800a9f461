"""inv test and inv lock: which runs they make, and what comes of their exit codes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.program import Program

from tasks import dev

WORKERS = ["--dist", "loadfile", "--no-loadscope-reorder", "-n", "5"]


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({}, ["-m", "not long", *WORKERS, "--durations=10"]),
        ({"quick": True}, ["-m", "not boot and not long", *WORKERS]),
        ({"long": True}, [*WORKERS, "--durations=10"]),
        ({"quick": True, "long": True}, ["-m", "not boot", *WORKERS]),
        (
            {"k": "a or b", "paths": ["/t"]},
            ["-m", "not long", *WORKERS, "--durations=10", "-k", "a or b", "/t"],
        ),
        ({"quick": True, "paths": ["/t"]}, ["-m", "not boot and not long", "/t"]),
    ],
)
def test_what_is_selected(given: dict[str, Any], arguments: list[str]) -> None:
    """A part of the quick tests runs in one process."""
    assert dev.selection(**given) == arguments


@pytest.mark.parametrize("code", [0, 1, 5])
def test_it_ends_with_pytests_code(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with no word after pytest's own: a run that selects no test has failed."""
    monkeypatch.setattr(dev, "_pytest", lambda _: code)
    with pytest.raises(Exit) as caught:
        dev.run_tests(Context(), path=[])
    assert (caught.value.code, caught.value.message) == (code, None)


def test_what_tests_start_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def call(*_: object, env: dict[str, str], **__: object) -> int:
        asked.append(env)
        return 3

    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("CUTS_SEED", "7")
    monkeypatch.setattr(subprocess, "call", call)
    with pytest.raises(Exit) as caught:
        dev.lint(Context())
    assert caught.value.code == 3
    [env] = asked
    assert env["CUTS_SEED"] == "7"
    assert "PYTHONDONTWRITEBYTECODE" not in env


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags arrive as meant; paths are looked up from where the user stands, test ids too."""
    monkeypatch.chdir(tmp_path)
    made: list[str] = []

    def pytest_(arguments: Sequence[str]) -> int:
        made.extend(arguments)
        return 0

    monkeypatch.setattr(dev, "_pytest", pytest_)
    program = Program(namespace=Collection(dev.run_tests), name="inv", binary="inv")
    with pytest.raises(SystemExit) as caught:
        program.run(
            ["inv", "test", "--quick", "-k", "a", "-p", "a/test_b.py::test_c[1]", "--path", "/d"]
        )
    assert caught.value.code == 0
    paths = [f"{tmp_path}/a/test_b.py::test_c[1]", "/d"]
    assert made == ["-m", "not boot and not long", "-k", "a", *paths]


@pytest.mark.parametrize("upgrade", [False, True])
def test_the_box_is_locked_to_the_tool(upgrade: bool) -> None:
    """The second lock file takes its versions from the first, and none names an address."""
    tool, box, *alone = dev.lock_commands(upgrade=upgrade)
    assert ("--upgrade" in tool) is upgrade
    assert box[box.index("--constraints") + 1] == tool[tool.index("--output-file") + 1]
    assert [each[-1] for each in alone] == ["requirements-kimpy.in", "requirements-kim-tools.in"]
    assert all(("--upgrade" in each) is upgrade for each in alone)
    for arguments in (tool, box, *alone):
        assert "--generate-hashes" in arguments
        assert not [word for word in arguments if word.startswith("--emit")]


@pytest.mark.parametrize("task", [dev.run_tests, dev.lint, dev.bench])
def test_without_the_tests_a_developers_task_is_one_line(
    task: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "_pytest", lambda _: pytest.fail("there is nothing to run"))
    with pytest.raises(Exit, match=f"^error: {tmp_path} has no tests/: "):
        task(Context(), **({"path": ()} if task is dev.run_tests else {}))
