"""Partition a disk image, and make ext4 filesystems."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploys.operations.disks import Partition
from tasks.desk import shell
from tasks.disks.identifiers import Identifiers

SECTOR = 512
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of a disk: its first byte and its size in bytes."""

    offset: int
    size: int


def gpt(partitions: Sequence[Partition], identifiers: Identifiers) -> str:
    """A GPT with these partitions."""
    lines = ["label: gpt", f"label-id: {identifiers.uuid('gpt')}"]
    lines += [f"{part.line()}, uuid={identifiers.uuid(part.label)}" for part in partitions]
    return "".join(f"{line}\n" for line in lines)


def partition(disk: Path, table: str) -> list[Extent]:
    """Write a partition table in sfdisk(8)'s form; returns where its partitions are."""
    shell.run(["sfdisk", "--quiet", "--wipe=always", disk], input=table)
    return extents(disk)


def extents(disk: Path) -> list[Extent]:
    """Where the partitions of a disk are, in the order of the table."""
    parts = json.loads(shell.run(["sfdisk", "--json", disk]).stdout)
    rows = parts["partitiontable"]["partitions"]
    return [Extent(row["start"] * SECTOR, row["size"] * SECTOR) for row in rows]


def make_ext4(device: Path, label: str) -> str:
    """Make an ext4 filesystem; returns its UUID, which is random."""
    identity = str(uuid.uuid4())
    shell.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-U", identity, device])
    return identity
