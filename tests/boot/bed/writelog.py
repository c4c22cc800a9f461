"""What a guest wrote to its disk, request by request, and what of it outlives a power cut.

QEMU's driver blklogwrites stands between the guest and its disk and writes this log, in the format
of Linux's dm-log-writes (drivers/md/dm-log-writes.c): a header in the first sector, then for each
request a sector that says what it is, and its data. A flush is a request of its own.
"""

from __future__ import annotations

import mmap
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

SECTOR = 512
_ENTRY = struct.Struct("<QQQQ")  # first sector, sectors, flags, length of a mark
_FLUSH, _FUA, _DISCARD = 1, 2, 4
# What a disk writes whole or not at all. Its cache is written back in no order, block by block.
_BLOCK = 4096


class Cache(Enum):
    """What becomes of the writes in a disk's cache when the power goes."""

    LOST = "lost"  # none of them reached the disk
    KEPT = "kept"  # all did
    SOME = "some"  # each block by chance


@dataclass(frozen=True, slots=True)
class Write:
    """A request: ``data`` (None: zeros) for ``size`` bytes at ``offset``; a flush has no size."""

    offset: int
    size: int
    data: bytes | memoryview | None
    is_flush: bool = False
    is_durable: bool = False

    def blocks(self) -> Iterator[Write]:
        """The request in parts that a disk writes whole; zeros stay in one piece."""
        if self.data is None:
            yield self
            return
        for start in range(0, self.size, _BLOCK):
            part = self.data[start : start + _BLOCK]
            yield Write(self.offset + start, len(part), part, is_durable=self.is_durable)


def read(log: Path) -> list[Write]:
    """All requests that are whole in the log; QEMU may have been killed while it wrote."""
    return [write for _, write in _entries(log.read_bytes())]


def mapped(log: Path) -> list[tuple[int, Write]]:
    """As ``read``, of a log that may be gigabytes and is not written any more.

    With each request, the length that the log had when it was whole in it.
    """
    with log.open("rb") as file:
        return list(_entries(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def _entries(log: bytes | mmap.mmap) -> Iterator[tuple[int, Write]]:
    """Where each request ends in the log, and what it is."""
    content, at = memoryview(log), SECTOR
    while at + SECTOR <= len(content):
        sector, count, flags, _ = _ENTRY.unpack_from(content, at)
        if not (count or flags):
            break  # a hole: it was never written
        at += SECTOR
        size = count * SECTOR
        data = None
        if size and not flags & _DISCARD:
            data = content[at : at + size]
            at += size
        if at > len(content):
            break
        if data is not None and data == bytes(size):
            data = None
        is_flush = bool(flags & _FLUSH)
        yield at, Write(sector * SECTOR, size, data, is_flush, bool(flags & _FUA))


def surviving(writes: Sequence[Write], cache: Cache, seed: int = 0) -> list[Write]:
    """What is on the disk when the power goes after the last of these requests.

    Certain is what was written before the last flush, and what was written through the cache.
    """
    flushed = max((place for place, write in enumerate(writes) if write.is_flush), default=0)
    chance = random.Random(seed)
    kept = [write for write in writes[:flushed] if write.size]
    for write in writes[flushed:]:
        if not write.size:
            continue
        if cache is Cache.KEPT or write.is_durable:
            kept.append(write)
        elif cache is Cache.SOME:
            kept += [part for part in write.blocks() if chance.random() < 0.5]
    return kept


def replay(writes: Sequence[Write], disk: Path) -> None:
    """Write the requests to a disk image."""
    with disk.open("r+b") as file:
        for write in writes:
            file.seek(write.offset)
            file.write(bytes(write.size) if write.data is None else write.data)
