"""The tasks about this project itself: its settings, signers, tests, benches and lock files."""

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
from tasks.stack import signing

ROOT = Path(__file__).resolve().parents[1]
# Test files that run at once on two cores. A test without a guest waits for daemons and deadlines
# half of its time, one with a guest a third.
QUICK_FILES = 5
GUESTS = 3
_UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
# The folders below tests/ whose tests all have a marker of these names, and those where none has.
_NEED_ROOT = ("boot", "storage")
_NEED_NO_ROOT = ("lint", "pipeline", "unit")
_NO_TESTS = 5  # pytest's exit code when nothing was selected


def phases(
    *,
    quick: bool = False,
    slow: bool = False,
    long: bool = False,
    k: str = "",
    paths: Sequence[str] = (),
) -> list[list[str]]:
    """The runs of pytest that make up the suite, as lists of arguments; the quick run is first.

    Args:
        quick: leave out the tests that need root: for loop devices, a whole Debian, guests.
        slow: include the tests marked ``slow``, as the gate does.
        long: include the tests marked ``slow`` and those marked ``long``.
        k: pytest's ``-k`` expression.
        paths: files, folders or test ids; none: the whole suite.
    """
    left_out = () if long else ("long",) if slow else ("slow", "long")
    length = "".join(f" and not {marker}" for marker in left_out)
    chosen = [*(["-k", k] if k else []), *paths]
    # The tests of a file share a guest or a server, so a file stays with one worker.
    spread = ["--dist", "loadfile", "--no-loadscope-reorder", "-n"]
    # A part of the quick tests ends sooner than workers would start.
    files = [] if chosen else [*spread, str(QUICK_FILES), *_ignored(_NEED_ROOT)]
    runs = [["-m", f"not storage and not boot{length}", *files, *chosen]]
    if not quick:
        others = [] if chosen else _ignored(_NEED_NO_ROOT)
        words = [*spread, str(GUESTS), *others, "--durations=10", *chosen]
        runs.append(["-m", f"(storage or boot){length}", *words])
    return runs


def _ignored(folders: Sequence[str]) -> list[str]:
    """Folders that have no test of a run: each worker would read all that is in them."""
    return [f"--ignore={ROOT / 'tests' / folder}" for folder in folders]


def verdict(codes: Sequence[int], *, narrowed: bool) -> int:
    """The exit code for all runs: that of the first run that failed.

    A run that selected no test has failed too, unless the user asked for a part of the suite
    (``narrowed``) and another run had tests of it.
    """
    excused = (0, _NO_TESTS) if narrowed and set(codes) != {_NO_TESTS} else (0,)
    return next((code for code in codes if code not in excused), 0)


@task(
    name="test",
    positional=[],
    iterable=["path"],  # a default in the signature would undo this
    help={
        "quick": "Leave out what needs root: disks, a whole Debian, guests; takes three minutes.",
        "slow": "Also run the tests marked slow, as the gate does; takes an hour.",
        "long": "Also run the tests marked slow or long; takes hours.",
        "k": "Only tests whose names match this pytest expression.",
        "path": "Only this file, folder or test id; may be given more than once.",
    },
)
def run_tests(
    _c: Context,
    path: Sequence[str],
    quick: bool = False,
    slow: bool = False,
    long: bool = False,
    k: str = "",
) -> None:
    """Run the tests: first those that need no root, then, if all passed, those with guests."""
    _require_tests()
    narrowed = bool(k or path)
    codes: list[int] = []
    # Paths are relative to the caller's folder, but pytest runs in the project's.
    paths = [_absolute(each) for each in path or ()]
    for arguments in phases(quick=quick, slow=slow, long=long, k=k, paths=paths):
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


@task(
    name="add",
    help={
        "name": "Name of the signer, as ada-2026.",
        "key": f"The signer's private key, made if it is missing; without it, {signing.KEYS}.",
        "file": f"The list of signers; without it, {signing.SIGNERS}.",
        "force": "Make a new key in the place of the one that is there.",
    },
)
def add_signer(_c: Context, name: str, key: str = "", file: str = "", force: bool = False) -> None:
    """List a signer of the setup project, with a key that is there or is made."""
    with exit_on_error():
        private, signers = signing.add(name, key, file, force=force)
    print(f"key         {private}")
    print(f"list        {signers}")
    print(f"provision   --set setup.signers={signers}")
    print(f"sign        git config gpg.format ssh; git config user.signingKey {private}.pub")


@task(
    name="remove",
    help={
        "name": "Name of the signer.",
        "file": f"The list of signers; without it, {signing.SIGNERS}.",
    },
)
def remove_signer(_c: Context, name: str, file: str = "") -> None:
    """Take a signer off the list; boxes believe the key until their next provision."""
    with exit_on_error():
        print(f"list        {signing.remove(name, file)}")


@task
def lint(_c: Context) -> None:
    """Check the sources with ruff, mypy, shellcheck and this project's own rules."""
    _require_tests()
    raise Exit(code=_pytest([str(ROOT / "tests" / "lint")]))


def names_a_bench(argv: Sequence[str]) -> bool:
    """Whether a command line has, after ``bench``, a word that is not a flag or a flag's value.

    Invoke has no optional positional arguments: one whose default is None is required, with another
    default it is never filled, and ``bench resnap`` would run the task ``resnap``.
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
        "name": "The bench to run; without it, all. A wrong name prints the names of all benches.",
        "json": "Also write the numbers and a description of this machine to this file.",
    },
)
def bench(_c: Context, name: str | None = None, json: str = "") -> None:
    """Measure the speed and the sizes that the project promises, here and on the local guest."""
    _require_tests()
    from tests.bench.benches import main

    with exit_on_error():
        code = main(name or "", json)
    raise Exit(code=code)


@task(
    help={"upgrade": "Take the newest versions that requirements.in allows, not the locked ones."}
)
def lock(_c: Context, upgrade: bool = False) -> None:
    """Write the lock files (requirements*.txt) again, with hashes and without addresses."""
    for arguments in lock_commands(upgrade=upgrade):
        print(f"making {arguments[-2]} from {arguments[-1]}")
        shell.run([sys.executable, "-m", "uv", *arguments], cwd=ROOT)


def lock_commands(*, upgrade: bool) -> list[list[str]]:
    """uv's arguments for each lock file.

    All are for every platform and for Python 3.10 or newer: Ubuntu 22.04 has 3.10. The box's file
    has the versions of the first. The files of kimpy and kim-tools have what they name alone,
    without what that depends on: it comes from Debian.
    """
    common = ["pip", "compile", "--quiet", "--no-config", "--universal", "--python-version", "3.10"]
    common += ["--generate-hashes", "--no-annotate", "--custom-compile-command", "bin/inv lock"]
    newest = ["--upgrade"] if upgrade else []
    same = ["--upgrade", "--constraints", "requirements.txt"]
    alone = ["--no-deps", "--output-file"]
    return [
        [*common, *newest, "--output-file", "requirements.txt", "requirements.in"],
        [*common, *same, "--output-file", "requirements-box.txt", "requirements-box.in"],
        [*common, *newest, *alone, "requirements-kimpy.txt", "requirements-kimpy.in"],
        [*common, *newest, *alone, "requirements-kim-tools.txt", "requirements-kim-tools.in"],
    ]


def _require_tests() -> None:
    if not (ROOT / "tests").is_dir():
        raise Exit(f"error: {ROOT} has no tests/: run this in a clone of the project", code=1)


def _absolute(path: str) -> str:
    name, separator, test_id = path.partition("::")
    return f"{Path(name).absolute()}{separator}{test_id}"


def _pytest(arguments: Sequence[str]) -> int:
    # Not by shell.run: pytest writes to the terminal itself.
    command = [sys.executable, "-m", "pytest", *arguments]
    # Tests start the tool a hundred times; it should be compiled only once.
    environment = {key: value for key, value in os.environ.items() if key != _UNCOMPILED}
    sys.stdout.flush()
    return subprocess.call(command, cwd=ROOT, env=environment)  # noqa: S603
