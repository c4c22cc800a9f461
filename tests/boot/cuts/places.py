"""Where a boot looks first, and cuts at what is written there."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploys.operations.disks import EFI_SYSTEM, LINUX_LVM
from tasks.desk import shell
from tasks.disks import partitions
from tasks.disks.partitions import MIB, Extent
from tests.boot.bed import writelog
from tests.boot.bed.writelog import Write
from tests.boot.cuts.hostdisks import Cut, Requests, chosen
from tests.boot.cuts.recording import Recording

_LVM = (LINUX_LVM, "8e")  # in a GPT, in an MBR


def of(recording: Recording) -> list[dict[str, Extent]]:
    """What a boot reads of each medium before there is a root, by name, as it lies there.

    Of a disk: the loader of BIOS and the partition table, the EFI system partition, /boot, which is
    the partition before LVM's, and the head of the last one, LVM's metadata. And all of the NVRAM.
    """
    logs = [writelog.mapped(log) for log in recording.logs]
    found = [
        _of_disk(disk, [write for _, write in log])
        for disk, log in zip(recording.disks, logs, strict=False)
    ]
    nvram = recording.nvram
    return [*found, *([{"the NVRAM": Extent(0, nvram.stat().st_size)}] if nvram else [])]


def _of_disk(disk: Path, writes: Iterable[Write]) -> dict[str, Extent]:
    with tempfile.NamedTemporaryFile() as table:
        file = Path(table.name)
        table.truncate(disk.stat().st_size)
        with disk.open("rb") as before:
            table.write(before.read(MIB))
        table.flush()
        writelog.replay([write for write in writes if write.offset < MIB and write.size], file)
        parts = partitions.extents(file)
        types = [
            shell.run(["sfdisk", "--part-type", file, str(number)]).stdout.strip().lower()
            for number in range(1, len(parts) + 1)
        ]
    names = {"the loader": Extent(0, MIB)}
    if EFI_SYSTEM in types:
        names["the EFI system partition"] = parts[types.index(EFI_SYSTEM)]
    if types[-1] in _LVM and len(parts) > 1:
        names["/boot"] = parts[-2]
    names["LVM's metadata"] = Extent(parts[-1].offset, MIB)
    return names


def cuts(
    recording: Recording, looks: Sequence[int], count: int, chance: random.Random
) -> list[Cut]:
    """So many cuts by chance at writes to each of the places; see ``of``."""
    requests = Requests(recording)
    made = set()
    for number, names in enumerate(of(recording)):
        for part in names.values():
            found = [look for look in looks if touches(requests.new(look)[number], part)]
            made |= set(chosen(found, count, chance)) if found else set()
    return sorted(made, key=lambda cut: cut.look)


def touches(writes: Iterable[Write], part: Extent) -> bool:
    return any(
        write.offset < part.offset + part.size and write.offset + write.size > part.offset
        for write in writes
        if write.size
    )
