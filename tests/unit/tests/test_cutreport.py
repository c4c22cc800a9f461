"""The report of the power cuts: what is counted, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.boot.cuts import cutreport
from tests.boot.cuts.cutreport import Row

EXACT = Row(
    kind="exact",
    way="made anew",
    tried=20,
    survived=20,
    disks=7,
    seconds=(5.5, 4.0, 9.25),
    bytes_lost=0,
)
RANDOM = Row(
    kind="random", way="", tried=5, survived=4, disks=5, seconds=(), bytes_lost=65550, seed=7
)


def test_rows_of_a_run_are_summed_up(tmp_path: Path) -> None:
    report = tmp_path / "cuts.json"
    lines = cutreport.publish([EXACT, RANDOM], report)
    assert [" ".join(line.split()) for line in lines[1:4]] == [
        "exact made anew 20 20 7 5.5 (at most 9.2) 0",
        "random 5 4 5 65550 7",
        "all 25 24 12 5.5 (at most 9.2) 65550",
    ]
    total = json.loads(report.read_text())["total"]
    assert (total["tried"], total["survived"], total["bytes_lost"]) == (25, 24, 65550)


def test_a_row_is_found_again_until_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "cuts"
    cutreport.write(RANDOM, folder)
    cutreport.write(EXACT, folder)
    cutreport.write(EXACT, folder)
    assert cutreport.rows(folder) == [EXACT, RANDOM]
    cutreport.clear(folder)
    assert cutreport.rows(folder) == []
