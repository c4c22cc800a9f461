"""The disks, and the NVRAM, that a power cut of a whole host leaves, by a recording's logs."""

from __future__ import annotations

import bisect
import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.desk import shell
from tests.boot.bed import writelog
from tests.boot.bed.writelog import Cache, Write
from tests.boot.cuts.recording import Recording


@dataclass(frozen=True, slots=True)
class Cut:
    """The power goes at one of a recording's looks; what is in the disks' caches fares so."""

    look: int
    cache: Cache
    seed: int = 0

    def name(self, recording: Recording) -> str:
        how = f"{self.cache.value} by {self.seed}" if self.cache is Cache.SOME else self.cache.value
        return f"{recording.step(self.look)}, look {self.look}, cache {how}"


def chosen(looks: Sequence[int], count: int, chance: random.Random) -> list[Cut]:
    """So many cuts at looks by chance, each of the three things happening to the cache."""
    return [
        Cut(chance.choice(looks), cache, chance.randrange(10**6))
        for _, cache in zip(range(count), _forever(), strict=False)
    ]


def _forever() -> Iterator[Cache]:
    while True:
        yield from (Cache.LOST, Cache.SOME, Cache.KEPT)


class Requests:
    """The requests of each of a recording's media, by the looks at their logs."""

    def __init__(self, recording: Recording) -> None:
        logs = [writelog.mapped(log) for log in recording.logs]
        self._ends = [[end for end, _ in log] for log in logs]
        self._looks = recording.looks
        self.all = [[write for _, write in log] for log in logs]

    def counts(self, look: int) -> list[int]:
        """How many each had had by then."""
        lengths = self._looks[look]
        return [bisect.bisect_right(e, at) for e, at in zip(self._ends, lengths, strict=True)]

    def new(self, look: int) -> list[list[Write]]:
        """Those of each disk since the look before."""
        before, now = self.counts(max(0, look - 1)), self.counts(look)
        return [w[a:b] for w, a, b in zip(self.all, before, now, strict=True)]


class Disks:
    """The media of a recording, as they are at one look after another; never an earlier one.

    What is certain is written to raw images as it becomes so; what a cut leaves of the caches is
    written over that for the time of a boot. Flash has no cache: all that the firmware has written
    to its NVRAM by a look is certain. So that is as new as the newest of the disks, whatever they
    lose, and what they need of each other must have been flushed before.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._requests = Requests(recording)
        self._cached = len(recording.disks)
        self.images = [folder / f"disk{number}.raw" for number in range(len(recording.media))]
        self._done = [0] * len(self.images)
        for medium, file in zip(recording.media, self.images, strict=True):
            shell.run(["cp", "--sparse=always", medium, file])

    @contextlib.contextmanager
    def after(self, cut: Cut) -> Iterator[list[Path]]:
        """The images as the cut leaves them, in the order of ``Recording.media``."""
        undo: list[tuple[Path, list[Write]]] = []
        for number, count in enumerate(self._requests.counts(cut.look)):
            writes, file = self._requests.all[number], self.images[number]
            start = self._done[number]
            assert count >= start, "an earlier look was asked for"
            flushes = (at for at in range(count - 1, start - 1, -1) if writes[at].is_flush)
            certain = next(flushes, start) if number < self._cached else count
            writelog.replay([write for write in writes[start:certain] if write.size], file)
            self._done[number] = certain
            left = writelog.surviving(writes[certain:count], cut.cache, cut.seed + number)
            undo.append((file, _content(file, left)))
            writelog.replay(left, file)
        try:
            yield self.images
        finally:
            for file, content in undo:
                writelog.replay(content, file)


def _content(file: Path, writes: Sequence[Write]) -> list[Write]:
    """What is where these would write; in the order in which it is to be put back."""
    found = []
    with file.open("rb") as stream:
        for write in writes:
            stream.seek(write.offset)
            found.append(Write(write.offset, write.size, stream.read(write.size)))
    return found
