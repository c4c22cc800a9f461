"""The files of tests that took longest, set-up included: a table at the end of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pytest

_COUNT = 10


def pytest_configure(config: pytest.Config) -> None:
    """With xdist the process that was started hears of all tests, its workers need not sum."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Slowest())


class Slowest:
    """Sums up by file what set-up, call and teardown of each test took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test is over."""
        self._seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table; what a single file took is in pytest's last line."""
        if len(self._seconds) > 1:
            terminalreporter.section(f"{_COUNT} slowest files")
            for line in table(self._seconds):
                terminalreporter.write_line(line)


def table(seconds: Mapping[str, float]) -> list[str]:
    """A line for each of the slowest files, and one for all files."""
    slowest = sorted(seconds.items(), key=lambda item: item[1], reverse=True)
    rows = [*slowest[:_COUNT], (f"all {len(seconds)} files", sum(seconds.values()))]
    return [f"{took:8.1f} s  {name}" for name, took in rows]
