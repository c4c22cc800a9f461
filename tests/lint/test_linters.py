"""The linters, as ordinary tests: what they say is the message of the failure."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# What a box runs with a Python of its own that is older than ours.
ONBOX = ("static/onbox/usr/lib/secure", "static/onbox/usr/lib/status-page")
# What a desk with macOS runs: all but the guests, which need Debian's tools.
_ROOT = Path(__file__).parents[2]
_OF_A_DESK = [
    *("fabfile.py", "deploys"),
    *(
        f"tasks/{each.name}"
        for each in (_ROOT / "tasks").iterdir()
        if each.suffix == ".py" or (each.name != "guests" and any(each.glob("*.py")))
    ),
]
_DARWIN = ["--platform=darwin", "--cache-dir=.mypy_cache/darwin", "--follow-imports=silent"]
_SHELL = re.compile(rb"#!.*[/ ](?:ba|da)?sh\b|# shellcheck shell=")


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
        # The same sources once more, for the few names that differ: half a minute each.
        pytest.param(
            ["mypy", "--python-version", "3.10", "deploys", "static/pipeline", *ONBOX],
            marks=pytest.mark.slow,
        ),
        pytest.param(["mypy", *_DARWIN, *_OF_A_DESK], marks=pytest.mark.slow),
    ],
    ids=["ruff-check", "ruff-format", "mypy", "mypy-on-a-box", "mypy-on-macos"],
)
def test_python(command: list[str], root: Path) -> None:
    """Each module is run with this environment's own Python.

    What a box applies to itself runs on Ubuntu 22.04's too. On macOS Python has no names for what
    only Linux has.
    """
    _passes([sys.executable, "-m", *command], root)


def test_shell(tracked: list[Path], root: Path) -> None:
    """Every file that says it is for a shell, at the strictest."""
    scripts = [str(file.relative_to(root)) for file in tracked if _is_shell(file)]
    assert "bin/inv" in scripts
    _passes(["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *scripts], root)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"#!/bin/sh\n", True),
        (b"#!/usr/bin/env bash\n", True),
        (b"#!/bin/sh -e\n", True),
        (b"# shellcheck shell=sh\n", True),
        (b"#!/usr/bin/env python3\n", False),
        (b"#!/usr/bin/fish\n", False),
        (b"VOLGROUP=x\n", False),
    ],
)
def test_what_counts_as_shell(first: bytes, expected: bool, tmp_path: Path) -> None:
    """By the first line, as the kernel reads it, or by shellcheck's own directive."""
    file = tmp_path / "file"
    file.write_bytes(first)
    assert _is_shell(file) == expected


def _is_shell(file: Path) -> bool:
    with file.open("rb") as stream:
        return _SHELL.match(stream.readline()) is not None


def _passes(command: list[str], root: Path) -> None:
    done = subprocess.run(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}", pytrace=False)
