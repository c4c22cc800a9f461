"""The table of the slowest files at the end of a run of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import slowest

_SLEEPS = """
import time
import pytest

@pytest.fixture
def slow():
    time.sleep({0})
    yield
    time.sleep({0})

def test_a(slow):
    time.sleep({0})

def test_b():
    pass
"""


def test_the_ten_slowest_come_first_and_then_the_sum() -> None:
    lines = slowest.table({f"test_{number}.py": float(number) for number in range(1, 13)})
    assert lines[0].split() == ["12.0", "s", "test_12.py"]
    assert lines[9].split() == ["3.0", "s", "test_3.py"]
    assert lines[10].split() == ["78.0", "s", "all", "12", "files"]
    assert len(lines) == 11


@pytest.mark.commands
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_sums_set_up_and_teardown_of_all_workers(workers: str, tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text(_SLEEPS.format(0.3))
    (tmp_path / "test_quick.py").write_text(_SLEEPS.format(0.1))
    words = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.slowest",
        "-n",
        workers,
        "-c",
        "/dev/null",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *words,
            "--dist",
            "loadfile",
            "--rootdir",
            tmp_path,
            tmp_path,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    _, found, table = done.stdout.partition("10 slowest files")
    assert found
    first, second = (line.split() for line in table.splitlines()[1:3])
    assert (first[2], second[2]) == ("test_slow.py", "test_quick.py")
    assert float(first[0]) >= 0.9
    assert 0.3 <= float(second[0]) < float(first[0])
