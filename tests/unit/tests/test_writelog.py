"""What outlives a power cut, by the log of what a guest wrote."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.boot.bed import writelog
from tests.boot.bed.writelog import SECTOR, Cache, Write

FLUSH = Write(0, 0, None, is_flush=True)


def write(place: int, letter: str, sectors: int = 1, *, durable: bool = False) -> Write:
    size = sectors * SECTOR
    return Write(place * SECTOR, size, letter.encode() * size, is_durable=durable)


def entry(sector: int, sectors: int, flags: int, data: bytes = b"") -> bytes:
    return struct.pack("<QQQQ", sector, sectors, flags, 0).ljust(SECTOR, b"\0") + data


A, B = b"a" * SECTOR, b"b" * SECTOR
LOG = (
    b"header".ljust(SECTOR, b"\0")
    + entry(8, 1, 0, A)
    + entry(0, 0, 1)
    + entry(9, 2, 4)
    + entry(3, 1, 0, bytes(SECTOR))
    + entry(4, 1, 2, B)
)
WRITES = [
    write(8, "a"),
    FLUSH,
    Write(9 * SECTOR, 2 * SECTOR, None),
    Write(3 * SECTOR, SECTOR, None),
    write(4, "b", durable=True),
]


def test_a_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(LOG)
    assert writelog.read(log) == WRITES


@pytest.mark.parametrize(("missing", "whole"), [(1, 4), (SECTOR, 4), (2 * SECTOR, 4)])
def test_the_last_request_counts_when_it_is_whole(tmp_path: Path, missing: int, whole: int) -> None:
    log = tmp_path / "log"
    log.write_bytes(LOG[:-missing])
    assert writelog.read(log) == WRITES[:whole]


def test_a_request_that_was_never_written_ends_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(LOG[: 3 * SECTOR] + bytes(2 * SECTOR) + entry(1, 1, 0, A))
    assert writelog.read(log) == WRITES[:1]


AFTER_A_FLUSH = [write(1, "a"), FLUSH, write(2, "b"), write(3, "c", durable=True), write(2, "d")]


@pytest.mark.parametrize(
    ("cache", "left"),
    [(Cache.LOST, "ac"), (Cache.KEPT, "abcd")],
)
def test_what_was_not_flushed_is_lost_or_kept(cache: Cache, left: str) -> None:
    assert letters(writelog.surviving(AFTER_A_FLUSH, cache)) == left


def test_without_a_flush_nothing_is_certain() -> None:
    writes = [write(1, "a"), write(2, "b")]
    assert writelog.surviving(writes, Cache.LOST) == []


def test_what_is_certain_ends_with_the_last_flush() -> None:
    writes = [write(1, "a"), FLUSH, write(2, "b"), FLUSH, write(3, "c")]
    assert letters(writelog.surviving(writes, Cache.LOST)) == "ab"


def test_some_of_it_is_a_matter_of_chance_that_can_be_had_again() -> None:
    writes = [write(1, "z"), FLUSH, write(0, "a", sectors=16), write(40, "b"), write(41, "c")]
    several = [writelog.surviving(writes, Cache.SOME, seed) for seed in range(20)]
    assert several == [writelog.surviving(writes, Cache.SOME, seed) for seed in range(20)]
    assert all(left[0] == writes[0] for left in several)
    # of the long request one block alone may be there
    assert {sum(part.size for part in left if part.offset < 16 * SECTOR) for left in several} == {
        SECTOR,
        SECTOR + 4096,
        SECTOR + 8192,
    }


def test_a_replay_writes_in_order_and_zeros_too(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 4 * SECTOR)
    writelog.replay([write(0, "a"), write(1, "b"), write(0, "c"), Write(1024, SECTOR, None)], disk)
    assert disk.read_bytes() == b"c" * SECTOR + B + bytes(SECTOR) + b"x" * SECTOR


def letters(writes: Sequence[Write]) -> str:
    return "".join(bytes(write.data[:1]).decode() for write in writes if write.data)
