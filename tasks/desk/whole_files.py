"""Files that get their name when they are whole."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploys.errors import BoxError, PreflightError


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A file that takes the target's name, whole and on the disk, only when the block ends well."""
    temporary = target.with_name(f".{target.name}.partial")
    try:
        yield temporary
        _rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def made_once(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A file that is made unless it is there; where it lies within the block, only to be read.

    One that was made takes the target's name when the block ends, however that does: by then most
    of it is on the disk, as it must be before.
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
    """Move files that are whole into a folder, in the order given, once all are on the disk.

    Raises:
        OSError: one could not be written out or moved.
    """
    for name in names:
        with (work / name).open("rb") as file:
            os.fsync(file.fileno())
    for name in names:
        (work / name).replace(folder / name)


def require_place(file: Path) -> None:
    """Require that a file can be made there: in a folder, and not in a folder's place.

    Raises:
        PreflightError: it cannot.
    """
    if not file.parent.is_dir():
        raise PreflightError(f"{file.parent} is no folder")
    if file.is_dir():
        raise PreflightError(f"{file} is a folder: name a file in it")


def require_unused(file: Path) -> None:
    """Require that no process has a file open, as a guest has its disk and what that lies on.

    Raises:
        BoxError: one has; the line names it.
    """
    for entry in _opened(file):
        _refuse(file, entry)


def require_unwritten(file: Path) -> None:
    """Require that no process can write a file; those that read it, as a guest whose disk lies
    on it, may have it open.

    Raises:
        BoxError: one can; the line names it.
    """
    for entry in _opened(file):
        if _mode(entry) != os.O_RDONLY:
            _refuse(file, entry)


def _rename(temporary: Path, target: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)


def _opened(file: Path) -> Iterator[Path]:
    """The descriptors of all processes that have a file open: /proc/PID/fd/N."""
    if not file.exists():
        return
    wanted = file.stat()
    # Path.glob fails when a process ends while it is being looked at.
    for name in glob.iglob("/proc/[0-9]*/fd/*"):  # noqa: PTH207
        entry = Path(name)
        try:
            found = entry.stat()
        except OSError:
            continue  # it ended, or is another user's
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            yield entry


def _mode(descriptor: Path) -> int:
    """How it was opened, by proc_pid_fdinfo(5); one that is closed by now reads nothing."""
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
