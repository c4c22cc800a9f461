"""A filesystem of limited size for the jobs of a process: ext4 in a file, mounted by systemd.

A worker may mount nothing; systemd does it for it, and unmounts it when the worker's unit ends. So
the kernel holds a job to its limit, whatever it does with its files. It is no tmpfs: jobs may write
more than a small box has memory.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from kimpipeline.errors import SandboxError
from kimpipeline.run.sandbox.cell import Cell
from kimpipeline.run.sandbox.confined import find_program

# What a job writes need not outlive a crash: no journal.
_FORMAT = ("-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode")
_DEADLINE = 60  # seconds


@contextlib.contextmanager
def mounted(cell: Cell, size: int, bound: Sequence[str]) -> Iterator[Path]:
    """An empty filesystem of ``size`` bytes; it is gone at the end, with all in it.

    Args:
        cell: the filesystem is in its folder.
        size: bytes, with what the filesystem itself takes.
        bound: properties that bind a unit to that of the worker.

    Raises:
        SandboxError: it could not be made, or not be unmounted.
    """
    place, image = cell.folder / "disk", cell.folder / "disk.ext4"
    try:
        _unmount(place)  # what a killed command left
        place.mkdir(exist_ok=True)
        with image.open("wb") as file:
            file.truncate(size)
    except OSError as error:
        raise SandboxError(f"{cell.folder}: {error.strerror}") from error
    _run(find_program("mkfs.ext4", "e2fsprogs"), *_FORMAT, str(image))
    words = [f"--property={each}" for each in bound]
    words += ["--quiet", "--collect", "--fsck=no", "--type=ext4", "--options=loop,nosuid,nodev"]
    _run(find_program("systemd-mount", "systemd"), *words, str(image), str(place))
    image.unlink()  # the mount keeps its content: nothing of it can be left behind
    if not place.is_mount():
        raise SandboxError(f"{place}: systemd mounted it, but not where this process sees it")
    try:
        yield place
    finally:
        if not bound:  # else systemd does it, but only when the worker has ended
            _unmount(place)


def _unmount(place: Path) -> None:
    if place.is_mount():
        _run(find_program("systemctl", "systemd"), "stop", str(place))


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_DEADLINE, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"{argv[0]} did not end within {_DEADLINE} s") from error
    if done.returncode:
        line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SandboxError(f"the disk of jobs: {line or f'{argv[0]} failed'}")
