"""What the power cuts of a run came to: a JSON file, and a table at the end of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from tasks.desk.places import STATE
from tests.boot.cuts.cuts import Survival

FOLDER = STATE / "cuts"
REPORT = STATE / "cuts.json"


class Row(BaseModel):
    """The cuts of one kind over one way through the reset.

    ``tried`` counts the instants at which the power was cut, ``disks`` how many different disks
    they left: each was booted. ``seconds`` are those of the boots after the cuts, from power-on to
    the verdict, of a host to the login; none where GRUB's code read the disk in place of a boot.
    ``bytes_lost`` are /persistent's.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    way: str
    tried: int
    survived: int
    disks: int
    seconds: tuple[float, ...]
    bytes_lost: int
    seed: int | None = None


def row(
    kind: str, way: str, tried: int, found: Mapping[str, Survival], seed: int | None = None
) -> Row:
    """The row of what came of the cuts, by their names."""
    faulty = sum(bool(survival.faults) for survival in found.values())
    return Row(
        kind=kind,
        way=way,
        tried=tried,
        survived=tried - faulty,
        disks=len(found),
        seconds=tuple(survival.seconds for survival in found.values() if survival.seconds),
        bytes_lost=sum(survival.bytes_lost for survival in found.values()),
        seed=seed,
    )


def write(row: Row, folder: Path = FOLDER) -> None:
    """Put a row where the end of the run finds it; a later one of its kind and way replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{row.kind}-{row.way}.json".replace(" ", "-")
    (folder / name).write_text(row.model_dump_json())


def rows(folder: Path = FOLDER) -> list[Row]:
    """The rows of the run."""
    return [Row.model_validate_json(file.read_text()) for file in sorted(folder.glob("*.json"))]


def clear(folder: Path = FOLDER) -> None:
    """Forget an earlier run."""
    for file in folder.glob("*.json"):
        file.unlink()


def publish(found: Sequence[Row], report: Path = REPORT) -> list[str]:
    """Write the JSON file; the table's lines."""
    total = Row(
        kind="all",
        way="",
        tried=sum(row.tried for row in found),
        survived=sum(row.survived for row in found),
        disks=sum(row.disks for row in found),
        seconds=tuple(second for row in found for second in row.seconds),
        bytes_lost=sum(row.bytes_lost for row in found),
    )
    values = {"rows": [row.model_dump() for row in found], "total": total.model_dump()}
    report.write_text(json.dumps(values, indent=1))
    head = ("cuts", "way", "tried", "survived", "disks", "s to a good boot", "bytes lost", "seed")
    table = [head, *(_cells(row) for row in [*found, total])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
    return [*lines, f"as JSON: {report}"]


def _cells(row: Row) -> tuple[str, ...]:
    times = sorted(row.seconds)
    took = f"{times[len(times) // 2]:.1f} (at most {times[-1]:.1f})" if times else ""
    numbers = (row.tried, row.survived, row.disks)
    seed = "" if row.seed is None else str(row.seed)
    return (row.kind, row.way, *map(str, numbers), took, str(row.bytes_lost), seed)


def pytest_sessionstart(session: pytest.Session) -> None:
    """What an earlier run's power cuts came to is not this run's."""
    if not hasattr(session.config, "workerinput"):
        clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The power cuts of this run."""
    if found := rows():
        terminalreporter.section("power cuts")
        for line in publish(found):
            terminalreporter.write_line(line)
