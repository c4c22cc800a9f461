"""Power cuts over the reset: the ways through it, what a cut leaves, whether the box comes back."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter

from tests.boot.bed import bed, beddisk, writelog
from tests.boot.bed.bed import Bed, Boot
from tests.boot.bed.beddisk import Disk
from tests.boot.bed.writelog import Cache, Write

# The same seed gives the same choices of the same cuts.
SEED = int(os.environ.get("CUTS_SEED") or random.randrange(10**6))
NORMAL = ("lvsize=100%ORIGIN", "resnap")
KEEP = ("lvsize=100%ORIGIN",)
TRIAL = (*NORMAL, "trial")
RESET_IS_OVER = "resnap: verdict"


@dataclass(frozen=True, slots=True)
class Way:
    """A way through the reset, and what the boot after a cut in it must come to.

    ``start`` is the disk (see ``starts``), ``words`` are the kernel's arguments; ``after`` are
    those of the boot after the cut. Its root must be one of ``roots``, and whole: as the golden
    root is, or as the snapshot was left. The golden root must then be that of the disk ``golden``.
    """

    start: str
    words: tuple[str, ...] = NORMAL
    after: tuple[str, ...] = NORMAL
    roots: tuple[str, ...] = ("golden",)
    golden: str = "new"


WAYS = {
    "emptied in place": Way("dirty"),
    "made anew": Way("dirty", words=("lvsize=20M", "resnap")),
    "first boot": Way("new"),
    "merged back": Way("changed"),
    "tried, then merged back": Way("changed", words=TRIAL),
    "promoted": Way("promoting", words=TRIAL, after=TRIAL, roots=("dirty",), golden="promoted"),
    "promoted, then merged back": Way("promoting", words=TRIAL),
    "kept": Way("dirty", words=KEEP, after=KEEP, roots=("dirty",)),
    # no one may find half of a snapshot that was being emptied
    "emptied, then kept": Way("dirty", after=KEEP, roots=("golden", "dirty")),
}


@dataclass(frozen=True, slots=True)
class Start:
    """A box that is off: its disk, and which version of its file on /persistent it has."""

    disk: Disk
    version: int


_STARTS = TypeAdapter(Start)


class Starts(dict[str, Start]):
    """The disks that the ways start from, each made by the first of all workers that asks for it.

    It is new; dirty, as its power was cut; half changed, with a safety snapshot; or promoting: its
    dirty snapshot becomes the golden root at the next boot. What comes of that is promoted.
    """

    def __init__(
        self, rig: Bed, folder: Path, new: Callable[[Path], Disk] = beddisk.make_disk
    ) -> None:
        super().__init__()
        self._rig, self._folder, self._make = rig, folder, new

    def __missing__(self, name: str) -> Start:
        makers = {
            "new": self._new,
            "dirty": self._dirty,
            "changed": self._changed,
            "promoting": self._promoting,
            "promoted": self._promoted,
        }
        path = self._folder / f"{name}.raw"
        note = path.with_suffix(".json")
        with FileLock(path.with_suffix(".lock")):
            if not note.exists():
                note.write_bytes(_STARTS.dump_json(makers[name](path)))
        made = self[name] = _STARTS.validate_json(note.read_bytes())
        return made

    def _new(self, path: Path) -> Start:
        return Start(self._make(path), 0)

    def _dirty(self, path: Path) -> Start:
        first = self._rig.boot(self["new"].disk, *NORMAL)
        assert first.verdict == "fresh", first.console
        return left_by(self["new"], first, path)

    def _changed(self, path: Path) -> Start:
        words = (*KEEP, "bed.change")
        change = self._rig.boot(self["dirty"].disk, *words, root=bed.GOLDEN, whole=True)
        assert (change.verdict, change.said("changed")) == ("golden", [""]), change.console
        return left_by(self["dirty"], change, path)

    def _promoting(self, path: Path) -> Start:
        words = (*KEEP, "bed.promote")
        promote = self._rig.boot(self["dirty"].disk, *words, until="bed: promoted", whole=True)
        assert (promote.verdict, promote.said("promoted")) == ("kept", [""]), promote.console
        return left_by(self["dirty"], promote, path, Cache.KEPT)

    def _promoted(self, path: Path) -> Start:
        merge = self._rig.boot(self["promoting"].disk, *TRIAL)
        assert (merge.verdict, merge.said("root")) == ("fresh", ["dirty"]), merge.console
        return left_by(self["promoting"], merge, path, Cache.KEPT)


def left_by(
    start: Start, boot: Boot, path: Path, cache: Cache = Cache.LOST, seed: int = 0
) -> Start:
    """What is left when the power went at the end of a boot."""
    disk = start.disk.after(writelog.surviving(boot.writes, cache, seed), path)
    return Start(disk, max([start.version, *map(int, boot.said("wrote"))]))


@dataclass(frozen=True, slots=True)
class Cut:
    """An instant of a boot and what the disk's cache did: a disk that no other cut leaves."""

    name: str
    writes: Sequence[Write]


LOST_OR_KEPT = ((Cache.LOST, 0), (Cache.KEPT, 0))


def in_part(seeds: Iterable[int]) -> tuple[tuple[Cache, int], ...]:
    """A part of the cache, by chance, for each of these seeds."""
    return tuple((Cache.SOME, seed) for seed in seeds)


Chances = Sequence[tuple[Cache, int]]


def instants(
    writes: Sequence[Write], chances: Chances = LOST_OR_KEPT
) -> list[tuple[int, Cache, int]]:
    """After how many requests of a boot the power goes, and each thing that the cache does then."""
    return [(count, *chance) for count in range(len(writes) + 1) for chance in chances]


def cuts(writes: Sequence[Write], chances: Chances = LOST_OR_KEPT) -> Iterator[Cut]:
    """A cut at each of these ``instants``; a disk that an earlier cut left is not named again."""
    seen = set()
    for count, cache, seed in instants(writes, chances):
        left = writelog.surviving(writes[:count], cache, seed)
        digest = _digest(left)
        if digest not in seen:
            seen.add(digest)
            how = f"{cache.value} by {seed}" if cache is Cache.SOME else cache.value
            yield Cut(f"after request {count} of {len(writes)}, cache {how}", left)


def some(found: Sequence[Cut], count: int, chance: random.Random) -> list[Cut]:
    """Of cuts in order so many, by chance: one of each of equal parts of the way."""
    ends = [len(found) * number // count for number in range(count + 1)]
    parts = (found[begin:end] for begin, end in itertools.pairwise(ends))
    return [chance.choice(part) for part in parts if part]


def _digest(writes: Sequence[Write]) -> bytes:
    """The same for the same content: of each sector only what was written last counts."""
    sectors: dict[int, bytes | memoryview] = {}
    for write in writes:
        for start in range(0, write.size, writelog.SECTOR):
            data = write.data and write.data[start : start + writelog.SECTOR]
            sectors[write.offset + start] = data or bytes(writelog.SECTOR)
    digest = hashlib.sha256()
    for offset, data in sorted(sectors.items()):
        digest.update(b"%d:" % offset + data)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Survival:
    """What the boot after a cut came to: its faults (none: it survived), its seconds."""

    faults: tuple[str, ...]
    seconds: float
    bytes_lost: int


def survive(rig: Bed, start: Start, left: Disk, way: Way, golden: bytes) -> tuple[Survival, Boot]:
    """Boot what a cut left, with no hand laid on, and see what came of it.

    Args:
        rig: where it boots.
        start: the box before the boot that was cut.
        left: its disk after the cut.
        way: how it boots, and what that must come to.
        golden: the content of a golden root that is intact.
    """
    boot = rig.boot(left, *way.after, deadline=180)
    faults = []
    verdicts = ("kept", "fresh") if way.after == KEEP else ("fresh",)
    if boot.verdict not in verdicts:
        faults.append(f"the verdict is {boot.verdict}; its last words: {boot.console[-800:]}")
    if boot.said("root") not in [[root] for root in way.roots]:
        faults.append(f"the root is {boot.said('root')}, not {way.roots}")
    if "EXT4-fs error" in boot.console:
        faults.append("a filesystem has errors")
    came = left.after(writelog.surviving(boot.writes, Cache.KEPT), rig.folder / "came.raw")
    faults += beddisk.host_faults(came)
    if came.part(came.golden) != golden:
        faults.append("the golden root is not what it was")
    lost = 0
    kept = beddisk.version(left)
    faults += beddisk.host_faults(left, kept)
    if kept not in (start.version, start.version + 1):  # one may have been under way
        lost = len(beddisk.state(start.version))
        faults.append(f"/persistent has version {kept}, not {start.version}")
    return Survival(tuple(faults), boot.seconds, lost), boot
