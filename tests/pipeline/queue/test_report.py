"""What a service tells its box's status page, as that reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from reports import read_all

from kimpipeline.queue.report import Report


def test_the_page_reads_what_a_worker_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "status.d/worker-1"
    folder.mkdir(parents=True)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))

    def seen() -> tuple[object, ...]:
        (found,), faults = read_all(tmp_path / "status.d", time.time())
        assert faults == []
        levels = [line.level for line in found.log]
        return found.link, found.done, found.failed, levels

    with Report() as report:
        assert seen() == ("down", None, None, [])
        report.link("up")
        report.job(failed=False)
        report.job(failed=True)
        assert seen() == ("up", 1, 1, ["info", "warning"])
        for _ in range(99):
            report.job(failed=False)
        assert seen()[:3] == ("up", 100, 1)
    assert seen()[0] == "down"


def test_where_nobody_reads_it_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    with Report() as report:
        report.link("up")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "gone"))
    with Report() as report:
        report.link("up")
    assert list(tmp_path.iterdir()) == []
