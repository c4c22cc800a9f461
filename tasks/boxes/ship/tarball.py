"""Writes tar archives that depend on names and contents only, and sums them meanwhile."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from deploys.errors import BoxError

_CHUNK = 2**20
Report = Callable[[float], None]
Member = tuple[str, bytes | Path]
"""A name, and its content or the file that has it."""


class _Summed(io.RawIOBase):
    """A write-only file, with the SHA-256 of what was written."""

    def __init__(self, file: io.BufferedWriter, size: int, report: Report) -> None:
        super().__init__()
        self._file = file
        self._size = size
        self._report = report
        self._written = 0
        self.sum = hashlib.sha256()

    def tell(self) -> int:
        return self._written

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sum.update(data)
        self._written += len(data)
        self._report(min(100, 100 * self._written / self._size))
        return self._file.write(data)


def write(out: Path, members: Sequence[Member], time: int, report: Report) -> str:
    """Write a tar of regular files that belong to root, in the order given.

    Args:
        out: the archive; it is not compressed, as disks in it are.
        members: the files in it.
        time: of all members, in seconds since 1970.
        report: called with the percent done; an error that it raises ends the work.

    Returns:
        The archive's SHA-256.

    Raises:
        BoxError: a member is larger than the 8 GiB that the format (ustar) holds.
    """
    size = sum(_size(content) for _, content in members) or 1
    with out.open("wb") as file:
        summed = _Summed(file, size, report)
        with tarfile.TarFile(
            fileobj=summed, mode="w", format=tarfile.USTAR_FORMAT, copybufsize=_CHUNK
        ) as archive:
            for name, content in members:
                _add(archive, name, content, time)
    return summed.sum.hexdigest()


def content_sum(content: bytes) -> str:
    """The SHA-256 of a member's content."""
    return hashlib.sha256(content).hexdigest()


def file_sum(path: Path, report: Report) -> str:
    """A file's SHA-256."""
    size, done, found = path.stat().st_size or 1, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            done += len(chunk)
            report(100 * done / size)
    return found.hexdigest()


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path, time: int) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mtime, about.mode = _size(content), time, 0o644
    about.uname = about.gname = "root"
    source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
    with source:
        try:
            archive.addfile(about, source)
        except ValueError as error:
            raise BoxError(f"{name} is too large for a tar archive: {error}") from error
