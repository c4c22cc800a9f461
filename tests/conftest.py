"""What holds for every test: no command unless it says so, no silent skip in CI."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest

_TESTS = Path(__file__).parent
# What can start a process; a unit test that reaches one of these tests more than a unit.
_STARTERS: tuple[tuple[Any, str], ...] = (
    (subprocess.Popen, "__init__"),
    (os, "system"),
    *((os, name) for name in dir(os) if name.startswith(("exec", "spawn", "posix_spawn"))),
    (os, "fork"),
    (os, "forkpty"),
)
# Tests that stand for the real thing: on the gate, one that did not run did not pass.
_REAL = ("boot", "storage")
_LENGTHS = {
    "slow": "takes minutes; runs with inv test --slow, which the gate runs, and with --long",
    "long": "takes minutes or hours; runs with inv test --long only",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers that keep a test out of the usual run, and what a run ends with.

    A run that is asked to end unwinds as with Ctrl-C: no guest, container or mount is left.
    """
    for marker, told in _LENGTHS.items():
        config.addinivalue_line("markers", f"{marker}: {told}")
    for report in ("boot/cuts/cutreport", "slowest"):
        if (_TESTS / f"{report}.py").exists():
            config.pluginmanager.import_plugin(f"tests.{report.replace('/', '.')}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in tests/boot and tests/storage by its folder."""
    for item in items:
        for name in _REAL:
            if item.path.is_relative_to(_TESTS / name):
                item.add_marker(name)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this run, the same for all workers: what one makes, others need not."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def two_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box's own volumes are persistent and swap, whatever rows somebody adds to their table."""
    from deploys.settings import own_volumes  # this file also serves suites that have no product

    rows = [row for row in own_volumes.TABLE if row.name in ("persistent", "swap")]
    monkeypatch.setattr(own_volumes, "TABLE", tuple(rows))


@pytest.fixture(autouse=True)
def _no_commands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below tests/unit a test cannot start a command unless marked ``commands``."""
    node: pytest.Item = request.node
    if not node.path.is_relative_to(_TESTS / "unit") or node.get_closest_marker("commands"):
        return
    for owner, name in _STARTERS:
        if hasattr(owner, name):
            monkeypatch.setattr(owner, name, _refuse(f"{owner.__name__}.{name}"))


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*arguments: object, **_: object) -> NoReturn:
        command = arguments[1] if name.startswith("Popen") else arguments
        pytest.fail(f"{name}: a unit test started a command without its marker: {command!r}")

    return refuse


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a boot or storage test that was skipped has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _in_ci():
        marks = [name for name in _REAL if item.get_closest_marker(name)]
        if marks:
            _fail(report, marks[0])
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI the same goes for a whole file of them."""
    report = yield
    if report.outcome == "skipped" and _in_ci():
        for name in _REAL:
            if collector.path.is_relative_to(_TESTS / name):
                _fail(report, name)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport, name: str) -> None:
    report.outcome = "failed"
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.longrepr = f"a {name} test may not be skipped in CI: {why}"
