"""fab and inv as they are started: without the tests, and with nobody who reads what they print."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.commands
ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("fabfile.py", "tasks", "deploys", "static")


def _start(
    tool: str, root: Path, *arguments: str, stdout: int = subprocess.PIPE, buffered: bool = True
) -> subprocess.CompletedProcess[str]:
    """A start as bin/fab or bin/inv makes it, from another folder than the project's."""
    code = f"from {tool}.main import program; import sys; sys.argv[0] = {tool!r}; program.run()"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    argv = [sys.executable, *([] if buffered else ["-u"]), "-P", "-c", code]
    return subprocess.run(
        [*argv, "--search-root", str(root), *arguments],
        cwd="/",
        env=env,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product, without tests/."""
    folder = tmp_path_factory.mktemp("product")
    for name in PRODUCT:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


@pytest.mark.parametrize("tool", ["fabric", "invoke"])
def test_it_starts_without_the_tests(tool: str, product: Path) -> None:
    done = _start(tool, product, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    assert {"provision", "status", "box.build", "bench"} <= set(words)


def test_a_bench_says_that_it_needs_the_tests(product: Path) -> None:
    done = _start("invoke", product, "bench")
    assert (done.returncode, done.stdout) == (1, "")
    line = f"error: {product} has no tests/: run this in a clone of the project\n"
    assert done.stderr == line


@pytest.mark.parametrize("words", [("resnap-",), ("--name", "resnap-")])
def test_the_word_after_bench_names_one(words: tuple[str, ...]) -> None:
    done = _start("invoke", ROOT, "bench", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no bench 'resnap-'; did you mean 'resnap'?")


@pytest.mark.parametrize(
    ("tool", "arguments", "buffered"),
    [
        ("fabric", ["--list"], True),
        ("invoke", ["--list"], False),
        ("fabric", ["status", "--help"], False),
    ],
)
def test_with_no_reader_it_ends_by_sigpipe_without_a_word(
    tool: str, arguments: list[str], buffered: bool
) -> None:
    """As other tools do; Python alone would print a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = _start(tool, ROOT, *arguments, stdout=writer, buffered=buffered)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_a_socket_without_a_reader_is_no_other_than_a_pipe() -> None:
    """poll(2) says POLLHUP of it, as macOS and BSD say of a pipe; Linux says POLLERR of a pipe."""
    reader, writer = socket.socketpair()
    reader.close()
    with writer:
        done = _start("invoke", ROOT, "--list", stdout=writer.fileno())
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        ("show.lines({'box': 'x' * 10**6})", -signal.SIGPIPE, ""),
        ("show.reboots({'box': HostState()})", -signal.SIGPIPE, ""),
        # another pipe's end is an error like any other
        ("sys.stdout = open(os.devnull, 'w'); os.close(1); raise BrokenPipeError('it')", 1, "it"),
    ],
)
def test_of_all_output_and_of_no_other_pipe(failure: str, code: int, said: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    names = (
        "import os, sys; from tasks import ns; from tasks.hosts import show; "
        "from deploys.facts.state import HostState"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"{names}; {failure}"],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == code
    assert done.stderr.strip().rpartition("BrokenPipeError: ")[2] == said
