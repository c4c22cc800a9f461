"""inv test and inv lock: which runs they make, and what comes of their exit codes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.program import Program

from tasks import dev

NONE = 5  # pytest's exit code when nothing was selected


def test_the_quick_runs_come_first() -> None:
    """Then the boots; three files at a time, and with that three guests."""
    first, second = dev.phases()
    assert first[:2] == ["-m", "not storage and not boot and not slow and not long"]
    assert first[-4:-2] == ["-n", "5"]
    assert [Path(word).name for word in first[-2:]] == ["boot", "storage"]
    assert second[:2] == ["-m", "(storage or boot) and not slow and not long"]
    assert second[-6:-4] == ["-n", "3"]
    ignored = [Path(word.removeprefix("--ignore=")).name for word in second[-4:-1]]
    assert ignored == ["lint", "pipeline", "unit"]


def test_no_run_ignores_a_test_of_its_own() -> None:
    """A worker need not read what has no test for it, but nothing may be left out for good."""
    [_, second] = dev.phases()
    for folder in (word.removeprefix("--ignore=") for word in second if "--ignore" in word):
        files = [*Path(folder).rglob("test_*.py")]
        assert files
        marked = ("mark." + "boot", "mark." + "storage")
        assert [file for file in files if any(mark in file.read_text() for mark in marked)] == []


def test_quick_boots_nothing_and_long_leaves_nothing_out() -> None:
    """The flags are about what is selected; -k and paths go to each run."""
    markers = [arguments[1] for arguments in dev.phases(slow=True)]
    assert markers == ["not storage and not boot and not long", "(storage or boot) and not long"]
    [only] = dev.phases(quick=True)
    assert only[:2] == ["-m", "not storage and not boot and not slow and not long"]
    first, second = dev.phases(long=True, k="a or b", paths=["/t"])
    assert first == ["-m", "not storage and not boot", "-k", "a or b", "/t"]
    assert second[:2] == ["-m", "(storage or boot)"]
    assert second[-3:] == ["-k", "a or b", "/t"]


@pytest.mark.parametrize(
    ("codes", "narrowed", "expected"),
    [
        ([0, 0], False, 0),
        ([1], False, 1),
        ([0, 1], False, 1),
        ([0, NONE], False, NONE),
        ([0, NONE], True, 0),
        ([NONE, 0], True, 0),
        ([NONE, NONE], True, NONE),
        ([NONE, 2], True, 2),
        ([2], True, 2),
    ],
)
def test_the_exit_code(codes: list[int], narrowed: bool, expected: int) -> None:
    """Silence is failure, unless a part of the suite was asked for and ran."""
    assert dev.verdict(codes, narrowed=narrowed) == expected


@pytest.mark.parametrize(
    ("results", "given", "runs", "code"),
    [
        ([0, 0], {}, 2, 0),
        ([1, 0], {}, 1, 1),
        ([0], {"quick": True}, 1, 0),
        ([NONE, 0], {"k": "resnap"}, 2, 0),
        ([NONE], {}, 1, NONE),
    ],
)
def test_a_failure_saves_the_boots(
    results: list[int],
    given: dict[str, object],
    runs: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The task ends with pytest's code and no word after pytest's own."""
    made: list[Sequence[str]] = []

    def pytest_(arguments: Sequence[str]) -> int:
        made.append(arguments)
        return results[len(made) - 1]

    monkeypatch.setattr(dev, "_pytest", pytest_)
    with pytest.raises(Exit) as caught:
        dev.run_tests(Context(), path=[], **given)
    assert (len(made), caught.value.code, caught.value.message) == (runs, code, None)


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
    assert made == ["-m", "not storage and not boot and not slow and not long", "-k", "a", *paths]


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
