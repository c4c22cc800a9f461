"""What the status page is told: the box's own state, reports, and what of it is red."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import gather
import pytest
from reports import Report

from deploys.facts.host_state import HostState, Verdict
from deploys.operations.onbox import ONBOX
from deploys.services.status_page import sources
from tests.unit.onbox.status_page.statusbox import NAMES, StatusBox, names_somebody

real = pytest.mark.commands


@pytest.fixture
def box(tmp_path: Path) -> StatusBox:
    return StatusBox.make(tmp_path / "a box")


def alarms(page: dict[str, object]) -> list[tuple[str, str]]:
    found = page["alarms"]
    assert isinstance(found, list)
    return [(alarm["level"], alarm["field"]) for alarm in found]


@real
def test_a_box_that_nobody_reports_of(box: StatusBox) -> None:
    before = int(time.time())
    page = box.gathered()
    assert page["written"] >= before
    assert (page["role"], page["queue"], page["jobs"]) == ("devel", None, None)
    assert page["verdict"] == {"name": "fresh"}
    assert (page["mode"], page["snapshot_percent"], page["initrd_matches"]) == (
        *("snapshot", 12.0),
        True,
    )
    assert (page["manifest"], page["commit"]) == ("cd" * 32, "0123abc")
    assert page["versions"] == {"lammps": "20250204", "libkim-api2": "2.3.0"}
    assert page["free"] == {"/": 2400000000, "/persistent": 2000000000}
    assert page["provisiond"] == {
        "state": "done",
        "finished": 1795550000,
        "runsetup": 0,
        "runsecure": 0,
    }
    assert page["alarms"] == []
    texts = [line["text"] for line in page["log"]]
    assert sorted(texts) == ["provisiond: done", "reset: fresh in 2.3 s"]


@real
def test_reports_are_merged(box: StatusBox) -> None:
    """What a worker's processes and its tunnel would write."""
    box.role("devel", "worker")
    box.report("tunnel", queue={"link": "up", "since": 1795550100})
    line = {"time": 1795550200, "event": "job failed"}
    (box.reports / "worker").mkdir()
    box.report("worker/1", jobs={"done": 7, "failed": 1}, log=[line], valid_seconds=3600)
    box.report("worker/2", jobs={"done": 5})
    page = box.gathered()
    assert page["role"] == "worker"
    assert page["queue"] == {"link": "up", "since": 1795550100}
    assert page["jobs"] == {"done": 12, "failed": 1}
    assert {"time": 1795550200, "level": "warning", "text": "job failed"} in page["log"]
    assert page["alarms"] == []


@real
def test_nothing_that_names_somebody_or_that_a_test_says_is_in_it(box: StatusBox) -> None:
    names_somebody(box)
    before = time.monotonic()
    done = box.gather()
    assert time.monotonic() - before < 10  # a pattern that backtracked took a minute
    assert done.returncode == 0
    text = box.status.read_text()
    assert [word for word in NAMES if word in text] == []
    page = json.loads(text)
    assert (page["kernel"], page["commit"]) == (None, None)
    assert (page["verdict"], page["versions"]) == ({"name": "failed"}, {"lammps": "20250204"})
    texts = [alarm["text"] for alarm in page["alarms"]]
    assert "the last reset failed" in texts
    assert "the last change of the golden root was rolled back" in texts
    assert texts[-1] == f"reports of services that cannot be read: {len(done.stderr.splitlines())}"
    # What is wrong with them is in the journal, without their content.
    assert all(line.startswith("<4>the report ") for line in done.stderr.splitlines())
    assert [word for word in NAMES if word in done.stderr] == []


@real
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda box: box.verdict("failed", "reason=no room"), [("alarm", "verdict")]),
        (
            lambda box: (box.verdict("failed"), box.write("run/resnap/quarantine", "\n")),
            [("alarm", "verdict"), ("alarm", "mode")],
        ),
        (lambda box: box.verdict("fresh", "initrd=other"), [("alarm", "initrd_matches")]),
        (lambda box: box.fill(79), []),
        (lambda box: box.fill(80), [("alarm", "snapshot_percent")]),
        (lambda box: box.tool("dmsetup", "exit 1"), [("alarm", "snapshot_percent")]),
        (lambda box: box.verdict("golden"), [("warning", "mode")]),
        (
            lambda box: box.write("run/provisiond/failed", "reason=x\nfinished=soon\n"),
            [("alarm", "provisiond")],
        ),
        (
            lambda box: box.write("persistent/log/rolled-back", "9 SSH does not answer\n"),
            [("alarm", "mode")],
        ),
        (lambda box: box.report("tunnel", queue={"link": "down"}), [("warning", "queue")]),
        (
            lambda box: box.tool("df", r"printf 'x\n/ 99 1\n/persistent 98 2\n'"),
            [("alarm", "free")],
        ),
        (lambda box: box.report("x", role="king"), [("warning", "")]),
    ],
)
def test_what_is_wrong_is_said(box: StatusBox, change, expected) -> None:  # type: ignore[no-untyped-def]
    change(box)
    assert alarms(box.gathered()) == expected


@real
def test_a_host_without_a_verdict_is_not_a_box(box: StatusBox) -> None:
    for file in box.root.glob("run/resnap/*"):
        file.unlink()
    page = box.gathered()
    assert (page["mode"], page["verdict"]) == ("not a box", None)
    assert alarms(page) == [("alarm", "verdict")]


@real
def test_who_reads_sees_the_old_or_the_new(box: StatusBox) -> None:
    box.gathered()
    assert box.status.stat().st_mode & 0o777 == 0o644
    inode = box.status.stat().st_ino
    with box.status.open() as reader:
        box.gathered()
        assert json.load(reader)["mode"] == "snapshot"
    assert box.status.stat().st_ino != inode
    assert [file.name for file in box.status.parent.iterdir() if file.is_file()] == ["status.json"]


@real
def test_a_read_that_fails_leaves_what_was_written(box: StatusBox) -> None:
    box.gathered()
    before = box.status.read_bytes()
    box.write("proc/uptime", "no number\n")
    assert box.gather().returncode != 0
    assert box.status.read_bytes() == before


def test_a_link_that_is_down_anywhere_is_down() -> None:
    reports = [Report(link="up", since=9), Report(link="down", since=3), Report(link="down")]
    page = gather.content(HostState(), reports, 0, 0)
    assert page["queue"] == {"link": "down", "since": 3}


def test_what_is_refused_is_counted() -> None:
    page = gather.content(HostState(verdict=Verdict("golden")), [], 500, 0)
    texts = [alarm["text"] for alarm in page["alarms"] if not alarm["field"]]  # type: ignore[attr-defined]
    assert texts == ["reports of services that cannot be read: 500"]


def test_what_was_done_is_known_where_failures_are_not() -> None:
    page = gather.content(HostState(), [Report(done=0)], 0, 0)
    assert page["jobs"] == {"done": 0, "failed": None}


def test_the_timer_is_as_often_as_the_page_is_told() -> None:
    timer = (ONBOX / "etc/systemd/system/status-page-gather.timer").read_text()
    assert f"OnUnitActiveSec={gather.INTERVAL}\n" in timer


@real
def test_it_needs_nothing_but_python_and_what_is_put_beside_it(box: StatusBox) -> None:
    for path, source in sources().items():
        box.write(path.lstrip("/"), source.content.decode())
    argv = [sys.executable, "-s", "-E", "-S", "-B", f"{box.root}/usr/lib/status-page/gather.py"]
    done = box.gather(argv, {})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(box.status.read_text())["mode"] == "snapshot"
