"""What a power cut of a host with two disks leaves of each, by the logs of their requests."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from deploys.operations.disks import EFI_SYSTEM, LINUX, LINUX_LVM, Partition
from tasks.desk.ssh_keys import Identity
from tasks.disks import partitions
from tasks.disks.identifiers import Identifiers
from tasks.disks.partitions import Extent
from tasks.guests.qemu.hardware import MIB, Machine
from tests.boot.bed.writelog import SECTOR, Cache
from tests.boot.cuts import places
from tests.boot.cuts.hostdisks import Cut, Disks, chosen
from tests.boot.cuts.recording import Recording
from tests.boot.lab.recipes import mbr
from tests.unit.tests.test_writelog import entry

pytestmark = pytest.mark.commands

A, B, C = (letter * SECTOR for letter in (b"a", b"b", b"c"))
HEADER = b"header".ljust(SECTOR, b"\0")
FLUSH = entry(0, 0, 1)
# each look: what either log has grown by since the one before
GROWTH = (
    (entry(1, 1, 0, A), b""),
    (FLUSH, entry(0, 1, 0, B)),
    (entry(1, 1, 0, C), b""),
    (b"", FLUSH),
)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    logs, lengths = [HEADER, HEADER], [(SECTOR, SECTOR)]
    for growth in GROWTH:
        logs = [log + new for log, new in zip(logs, growth, strict=True)]
        lengths.append((len(logs[0]), len(logs[1])))
    disks, files = [], []
    for number, log in enumerate(logs):
        disks.append(tmp_path / f"before{number}")
        disks[-1].write_bytes(b"-" * 2 * SECTOR)
        files.append(tmp_path / f"log{number}")
        files[-1].write_bytes(log)
    return Recording(
        machine=Machine(disks=()),
        identity=Identity(user="u", user_key=tmp_path, host_key="k"),
        disks=tuple(disks),
        logs=tuple(files),
        looks=lengths,
        steps=[("copy", 1), ("copy: cp", 2), ("boot", 4)],
    )


def content(disks: Disks, cut: Cut) -> tuple[str, ...]:
    """The first letter of each sector of both disks."""
    with disks.after(cut) as images:
        return tuple(image.read_text()[::SECTOR] for image in images)


def test_both_disks_are_cut_at_the_same_instant(recording: Recording, tmp_path: Path) -> None:
    disks = Disks(recording, tmp_path)
    assert content(disks, Cut(0, Cache.KEPT)) == ("--", "--")
    assert content(disks, Cut(1, Cache.LOST)) == ("--", "--")
    assert content(disks, Cut(1, Cache.KEPT)) == ("-a", "--")
    assert content(disks, Cut(2, Cache.LOST)) == ("-a", "--")
    assert content(disks, Cut(2, Cache.KEPT)) == ("-a", "b-")
    assert content(disks, Cut(3, Cache.KEPT)) == ("-c", "b-")
    # what that one left of the cache is no longer there
    assert content(disks, Cut(3, Cache.LOST)) == ("-a", "--")
    assert content(disks, Cut(4, Cache.LOST)) == ("-a", "b-")


def test_the_nvram_is_as_at_that_instant_whatever_the_disks_lose(
    recording: Recording, tmp_path: Path
) -> None:
    flash = recording.model_copy(update={"disks": recording.disks[:1], "nvram": recording.disks[1]})
    disks = Disks(flash, tmp_path)
    assert content(disks, Cut(1, Cache.LOST)) == ("--", "--")
    assert content(disks, Cut(2, Cache.LOST)) == ("-a", "b-")
    found = {content(disks, Cut(3, Cache.SOME, seed)) for seed in range(20)}
    assert found == {("-a", "b-"), ("-c", "b-")}


def test_a_part_of_the_cache_is_by_chance_and_repeatable(
    recording: Recording, tmp_path: Path
) -> None:
    disks = Disks(recording, tmp_path)
    found = [content(disks, Cut(3, Cache.SOME, seed)) for seed in range(20)]
    assert set(found) == {("-a", "--"), ("-a", "b-"), ("-c", "--"), ("-c", "b-")}
    assert found == [content(disks, Cut(3, Cache.SOME, seed)) for seed in range(20)]


def test_places_are_what_a_boot_reads_first(recording: Recording, tmp_path: Path) -> None:
    """Of a disk with partitions for UEFI, /boot and LVM; of one with a root alone; the NVRAM."""
    parts = (Partition("e", EFI_SYSTEM, MIB), Partition("b", LINUX, MIB), Partition("l", LINUX_LVM))
    tables = (partitions.gpt(parts, Identifiers("any")), mbr(None))
    extents = []
    for disk, table in zip(recording.disks, tables, strict=True):
        with disk.open("wb") as file:
            file.truncate(8 * MIB)
        extents.append(partitions.partition(disk, table))
    (esp, boot, group), (root,) = extents
    log, nvram = tmp_path / "log-nvram", tmp_path / "nvram"
    log.write_bytes(HEADER)
    nvram.write_bytes(A)
    flash = recording.model_copy(update={"nvram": nvram, "logs": (log, log, log)})
    loader = Extent(0, MIB)
    assert places.of(flash) == [
        {
            "the loader": loader,
            "the EFI system partition": esp,
            "/boot": boot,
            "LVM's metadata": Extent(group.offset, MIB),
        },
        {"the loader": loader, "LVM's metadata": Extent(root.offset, MIB)},
        {"the NVRAM": Extent(0, SECTOR)},
    ]


def test_looks_have_steps(recording: Recording) -> None:
    assert recording.within("copy", "boot") == range(1, 4)
    assert recording.within("copy: cp", "boot") == range(2, 4)
    assert [recording.step(look) for look in range(5)] == [
        *("before", "copy", "copy: cp", "copy: cp", "boot")
    ]


def test_the_same_seed_chooses_the_same_cuts() -> None:
    cuts = chosen(range(100), 9, random.Random(1))
    assert cuts == chosen(range(100), 9, random.Random(1))
    assert {cut.cache for cut in cuts} == set(Cache)
    assert len({cut.look for cut in cuts}) > 3
