"""Write files under a temporary name; they get their own name only when they are complete."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploys.errors import BoxError, PreflightError


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Yield a temporary file; it is flushed and renamed to the target if the block ends well."""
    temporary = target.with_name(f".{target.name}.partial")
    try:
        yield temporary
        _rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def made_once(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a file unless it exists; yields a path at which the block can read it.

    A new file is flushed and renamed to the target when the block ends, also by an exception. The
    flush is cheap by then, as the kernel has written most of the file meanwhile.
    """
    if target.exists():
        yield target
        return
    temporary = target.with_name(f".{target.name}.partial")
    try:
        make(temporary)
        try:
            yield temporary
        finally:
            _rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def published(work: Path, folder: Path, names: Sequence[str]) -> None:
    """Flush complete files to the disk, then move them into a folder in the given order.

    Raises:
        OSError: a file could not be flushed or moved.
    """
    for name in names:
        with (work / name).open("rb") as file:
            os.fsync(file.fileno())
    for name in names:
        (work / name).replace(folder / name)


def require_place(file: Path) -> None:
    """Require that a file can be made at a path.

    Raises:
        PreflightError: its folder does not exist, or the path is a folder itself.
    """
    if not file.parent.is_dir():
        raise PreflightError(f"{file.parent} is no folder")
    if file.is_dir():
        raise PreflightError(f"{file} is a folder: name a file in it")


def require_unused(file: Path) -> None:
    """Require that no process has a file open, as a guest has its disk and the image below it.

    Raises:
        BoxError: a process has it open; the line names the process.
    """
    for entry in _opened(file):
        _refuse(file, entry)


def require_unwritten(file: Path) -> None:
    """Require that no process has a file open for writing.

    Processes may read it, as a guest does whose disk is an overlay of it.

    Raises:
        BoxError: a process can write it; the line names the process.
    """
    for entry in _opened(file):
        if _mode(entry) != os.O_RDONLY:
            _refuse(file, entry)


def _rename(temporary: Path, target: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _opened(file: Path) -> Iterator[Path]:
    """The entries /proc/PID/fd/N of all processes that have a file open."""
    if not file.exists():
        return
    wanted = file.stat()
    # Path.glob raises when a process ends meanwhile.
    for name in glob.iglob("/proc/[0-9]*/fd/*"):  # noqa: PTH207
        entry = Path(name)
        try:
            found = entry.stat()
        except OSError:
            continue  # the process ended, or is another user's
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            yield entry


def _mode(descriptor: Path) -> int:
    """A descriptor's access mode, see proc_pid_fdinfo(5); read-only if it is closed by now."""
    try:
        lines = (descriptor.parents[1] / "fdinfo" / descriptor.name).read_text().splitlines()
    except OSError:
        return os.O_RDONLY
    [flags] = [line.removeprefix("flags:") for line in lines if line.startswith("flags:")]
    return int(flags, base=8) & os.O_ACCMODE


def _refuse(file: Path, descriptor: Path) -> None:
    process = descriptor.parents[1]
    try:
        name = (process / "comm").read_text().strip()
    except OSError:
        return  # it ended
    raise BoxError(f"{file} is in use by {name} (process {process.name}): halt the guest first")
