"""The tasks about this project itself: its settings, tests, linters, benches and lock files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from tasks.desk import shell
from tasks.desk.closed_pipe import Terminal
from tasks.desk.progress import exit_on_error
from tasks.desk.setting_tables import as_json, as_markdown, as_tables, sections

ROOT = Path(__file__).resolve().parents[1]
# Files of tests at a time, for two cores: a test that boots nothing waits for half of its time, for
# daemons and deadlines; a guest keeps a core busy.
QUICK_FILES = 5
GUESTS = 2
_UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
_NO_TESTS = 5  # pytest's exit code when nothing was selected


def phases(
    *, quick: bool = False, long: bool = False, k: str = "", paths: Sequence[str] = ()
) -> list[list[str]]:
    """The runs of pytest that make up the suite, as argument lists, the quick one first.

    Args:
        quick: leave out what boots guests.
        long: do not leave out the tests marked ``long``.
        k: pytest's ``-k`` expression.
        paths: files, folders or test ids; none: the whole suite.
    """
    length = "" if long else " and not long"
    chosen = [*(["-k", k] if k else []), *paths]
    # The tests of a file share a guest or a server, so a file stays with one worker.
    spread = ["--dist", "loadfile", "--no-loadscope-reorder", "-n"]
    # A part of what boots nothing is over before workers have started.
    files = [] if chosen else [*spread, str(QUICK_FILES)]
    runs = [["-m", f"not boot{length}", *files, *chosen]]
    if not quick:
        runs.append(["-m", f"boot{length}", *spread, str(GUESTS), "--durations=10", *chosen])
    return runs


def verdict(codes: Sequence[int], *, narrowed: bool) -> int:
    """One exit code for the runs: pytest's own, of the first that failed.

    A run that selected no test is a fault, except where the user asked for a part of the
    suite (``narrowed``) and another run had that part.
    """
    excused = (0, _NO_TESTS) if narrowed and set(codes) != {_NO_TESTS} else (0,)
    return next((code for code in codes if code not in excused), 0)


@task(
    name="test",
    positional=[],
    iterable=["path"],  # a default of its own would undo this
    help={
        "quick": "Leave out all that boots; it takes two minutes.",
        "long": "Also run the tests marked long.",
        "k": "Only tests whose names match this pytest expression.",
        "path": "Only this file, folder or test id; may be given more than once.",
    },
)
def run_tests(
    _c: Context, path: Sequence[str], quick: bool = False, long: bool = False, k: str = ""
) -> None:
    """Run the tests: first all that boot nothing, then, if those passed, the boots."""
    _require_tests()
    narrowed = bool(k or path)
    codes: list[int] = []
    # Paths are the caller's, pytest's rootdir is the project's.
    paths = [_absolute(each) for each in path or ()]
    for arguments in phases(quick=quick, long=long, k=k, paths=paths):
        codes.append(_pytest(arguments))
        if codes[-1] and not (narrowed and codes[-1] == _NO_TESTS):
            break
    raise Exit(code=verdict(codes, narrowed=narrowed))


@task(help={"json": "As JSON, for programs.", "markdown": "As the tables of docs/settings.md."})
def settings(_c: Context, json: bool = False, markdown: bool = False) -> None:
    """Show all settings with their defaults, limits and meaning."""
    found = sections()
    if markdown:
        print(as_markdown(found), end="")
    elif json:
        print(as_json(found))
    else:
        for table in as_tables(found):
            Terminal(highlight=False).print(table)


@task
def lint(_c: Context) -> None:
    """Check the sources: ruff, mypy, shellcheck and the house's own rules."""
    _require_tests()
    raise Exit(code=_pytest([str(ROOT / "tests" / "lint")]))


def names_a_bench(argv: Sequence[str]) -> bool:
    """Whether a command line has, after ``bench``, a word that is no flag and no flag's value.

    Invoke knows no optional positional: one without a default is required, one with a default
    is never filled, and ``bench resnap`` would run the task of that name.
    """
    words = list(argv[argv.index("bench") + 1 :]) if "bench" in argv else []
    pairs = zip(["", *words], words, strict=False)
    return any(
        not word.startswith("-") and (not flag.startswith("-") or "=" in flag)
        for flag, word in pairs
    )


@task(
    positional=["name"] if names_a_bench(sys.argv) else [],
    help={
        "name": "The one to run; none: all of them. A wrong name is answered with those there are.",
        "json": "Also write the numbers, and what they were measured on, to this file.",
    },
)
def bench(_c: Context, name: str = "", json: str = "") -> None:
    """Measure what the project promises of its speed and size, here and on the local guest."""
    _require_tests()
    from tests.bench.benches import main

    with exit_on_error():
        code = main(name, json)
    raise Exit(code=code)


@task(help={"upgrade": "Take the newest versions that requirements.in allows."})
def lock(_c: Context, upgrade: bool = False) -> None:
    """Write the requirements' .txt files anew, with hashes and no address."""
    for arguments in lock_commands(upgrade=upgrade):
        print(f"making {arguments[-2]} from {arguments[-1]}")
        shell.run([sys.executable, "-m", "uv", *arguments], cwd=ROOT)


def lock_commands(*, upgrade: bool) -> list[list[str]]:
    """uv's arguments for the lock files; the box's takes its versions from the first.

    All are for Python 3.10 on (Ubuntu 22.04's, on a box) and for every platform. Of kimpy only its
    own sources are taken: what it needs is Debian's.
    """
    common = ["pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", "3.10"]
    common += ["--generate-hashes", "--no-annotate", "--custom-compile-command", "bin/inv lock"]
    newest = ["--upgrade"] if upgrade else []
    same = ["--upgrade", "--constraints", "requirements.txt"]
    kimpy = ["--no-deps", "--output-file"]
    return [
        [*common, *newest, "--output-file", "requirements.txt", "requirements.in"],
        [*common, *same, "--output-file", "requirements-box.txt", "requirements-box.in"],
        [*common, *newest, *kimpy, "requirements-kimpy.txt", "requirements-kimpy.in"],
    ]


def _require_tests() -> None:
    if not (ROOT / "tests").is_dir():
        raise Exit(f"error: {ROOT} has no tests/: run this in a clone of the project", code=1)


def _absolute(path: str) -> str:
    name, separator, test_id = path.partition("::")
    return f"{Path(name).absolute()}{separator}{test_id}"


def _pytest(arguments: Sequence[str]) -> int:
    # Not through shell.run: the test runner has the terminal for itself.
    command = [sys.executable, "-m", "pytest", *arguments]
    # Tests start the tool a hundred times: it is not to be compiled each time.
    environment = {key: value for key, value in os.environ.items() if key != _UNCOMPILED}
    sys.stdout.flush()
    return subprocess.call(command, cwd=ROOT, env=environment)  # noqa: S603
