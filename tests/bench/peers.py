"""Other makers of images, tried with the packages of ``box.build``; some do not run everywhere.

vmdb2 reaches a partition through device-mapper, Debian 12's mkosi runs commands in its image
through systemd-nspawn. Where that cannot be had they end by themselves, and their row says so in
their words.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploys.errors import BoxError
from tasks.machines import shell
from tests.bench.rows import Row

Peer = Callable[[Path, str, Sequence[str], str], None]
"""Installs packages of a suite, from a mirror's URL, into an image in a folder."""

_DEADLINE = 3600  # seconds of each
_ALL = "{{ output }}"  # the disk image, as vmdb2 calls it


def row(name: str, ours: float, folder: Path, suite: str, names: Sequence[str], url: str) -> Row:
    """A peer beside ``ours`` in seconds, or why it has no number."""
    place = folder / name
    place.mkdir()
    began = time.perf_counter()
    try:
        PEERS[name](place, suite, names, url)
    except BoxError as error:
        return Row(f"box.build beside {name}", "s", ours, missing=str(error))
    return Row(f"box.build beside {name}", "s", ours, time.perf_counter() - began)


def _vmdb2(folder: Path, suite: str, names: Sequence[str], url: str) -> None:
    """A partition of ext4."""
    steps: list[Mapping[str, object]] = [
        {"mkimg": _ALL, "size": "8G"},
        {"mklabel": "gpt", "device": _ALL},
        {"mkpart": "primary", "device": _ALL, "start": "1M", "end": "100%", "tag": "root"},
        {"kpartx": _ALL},
        {"mkfs": "ext4", "partition": "root"},
        {"mount": "root"},
        {"debootstrap": suite, "mirror": url, "target": "root"},
        {"apt": "install", "packages": list(names), "tag": "root"},
    ]
    (folder / "steps").write_text(json.dumps({"steps": steps}))  # which is YAML too
    log = folder / "log"
    argv: list[str | Path] = ["vmdb2", folder / "steps", "--output", folder / "disk", "--log", log]
    try:
        shell.run(argv, timeout=_DEADLINE)
    except shell.CommandError as error:
        # Its own last line is no more than that an error occurred.
        said = re.findall(r"STDERR: (\S.*)", log.read_text() if log.exists() else "")
        if error.returncode is None or not said:
            raise
        raise BoxError(f"exit code {error.returncode}: {said[-1]}") from error


def _mkosi(folder: Path, suite: str, names: Sequence[str], url: str) -> None:
    """A folder."""
    argv = ["mkosi", "--distribution=debian", f"--release={suite}", "--format=directory"]
    argv += [f"--package={','.join(names)}", f"--mirror={url}", "--output=root"]
    argv += [f"--output-dir={folder}", f"--workspace-dir={folder}", "build"]
    try:
        shell.run(argv, cwd=folder, timeout=_DEADLINE)
    except shell.CommandError as error:
        if error.returncode is None:
            raise
        # What begins with that mark is its own, of no more than that a command failed.
        lines = [line.strip() for line in error.stderr.splitlines() if not line.startswith("‣")]
        raise BoxError(f"exit code {error.returncode}: {lines[-1] if lines else error}") from error


PEERS: Mapping[str, Peer] = {"vmdb2": _vmdb2, "mkosi": _mkosi}
