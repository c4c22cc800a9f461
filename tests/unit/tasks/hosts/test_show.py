"""What a person reads of results."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.hosts import show
from tasks.hosts.gateway.queue import Attempt, FailedUpdate, Overview, Running, Stuck
from tasks.hosts.provision import Provisioned
from tasks.hosts.shrink import Shrunk
from tasks.hosts.versions import Version
from tests.unit.tasks.hosts.states import BARE, DIGEST, FAILED, FRESH, REASON


@pytest.fixture(autouse=True, params=[80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    width: int = request.param
    return width


def test_a_provision_says_what_became_of_it(
    capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    results = {"a": Provisioned(True, FRESH), "b": Provisioned(False, FRESH)}
    show.provisioned(results, ["c"])
    out = capsys.readouterr().out
    [failed] = (line for line in out.splitlines() if "failed" in line)
    assert failed.split()[1:4:2] == ["c", "failed"]
    assert max(map(len, out.splitlines())) <= columns
    assert "changed" in out
    assert "nothing to change" in out
    assert DIGEST[:16] in out


def test_a_plan_is_a_table_a_host(capsys: pytest.CaptureFixture[str], columns: int) -> None:
    rows = [("partition", "/dev/vdb", "boot 512 MiB, rest"), ("change", "Boot | Files [etc]", "")]
    show.plans({"bare": rows, "box": []})
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert "/dev/vdb" in out
    assert "[etc]" in out
    assert out.endswith("box: nothing would change\n")


def test_a_reason_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show.reboots({"box": FAILED})
    assert REASON in " ".join(capsys.readouterr().out.split())


def test_a_reboot_says_what_the_reset_took(capsys: pytest.CaptureFixture[str]) -> None:
    show.reboots({"box": FRESH, "bare": BARE})
    assert capsys.readouterr().out == "box: fresh, the reset took 2.3 s\nbare: not a box\n"


def test_what_was_given_back_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ("/persistent", "trimmed", 3221225472),
        ("/", "left to the next reset", 0),
        ("/a b", "filled with zeros", 1024),
    ]
    show.shrunk({"box": Shrunk(rows, disk=(5 * 2**30, 2**30))})
    out = capsys.readouterr().out
    assert out.endswith("box: its disk took 5.0 GiB here, and takes 1.0 GiB\n")
    for words in ("trimmed", "3.0 GiB", "left to the next reset", "/a b", "filled with zeros"):
        assert words in out


def test_a_box_without_a_part_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for it, and none for the others."""
    why = "building it needs root"
    show.provisioned({"a": Provisioned(True, FRESH, {"ase": why}), "b": Provisioned(True, FRESH)})
    lines = [line for line in capsys.readouterr().out.splitlines() if "ase" in line]
    assert lines == [f"a: ase is left out: {why}"]


def test_a_queue_fits_a_terminal_and_says_who_works(
    capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    found = Overview(
        jobs={"ready": 120_000, "running": 1, "failed": 31, "done": 1_000_000},
        updates={"taken": 1},
        workers=2,
        directors=1,
        running=[Running(job="J1", box="ada", worker="w1/0", seconds=2.4)],
        minute={"good": 1200, "failed": 1},
        failed_updates=[FailedUpdate(kimid="X\x1b[2J", why="it is\nno KIM id")],
        stuck=[Stuck(job="J2", needs="J3", state="failed")],
        alarms=1,
    )
    show.queue("gw", found)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.replace("│", " ").split() for line in lines]
    assert ["jobs", "0", "120000", "1", "1000000", "31", "0", "1200"] in rows
    assert ["updates", "0", "0", "1", "0", "0", "0"] in rows
    assert "2 workers, 1 director" in [line.strip() for line in lines]
    assert "ada runs J1 on w1/0 for 2 s" in lines
    assert "J2 waits for J3, which is failed: pipeline.retry" in lines
    assert "no jobs of X\ufffd[2J: it is no KIM id" in lines
    assert max(map(len, lines)) <= columns


def test_the_log_of_a_job_passes_for_no_line_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    when = datetime.fromtimestamp(0, UTC)
    words = {"attempt": 1, "box": "ada", "worker": "w 1", "taken": when, "ended": when}
    log = "said\n1970-01-01 00:00 eve w good\x1b[2J"
    failed = Attempt(**words, how="failed", seconds=None, reason="exit\n3", log=log)
    running = Attempt(**{**words, "ended": None}, how=None, seconds=None, reason=None, log=None)
    show.attempts([failed, running])
    assert capsys.readouterr().out.splitlines() == [
        "1970-01-01 00:00 ada w_1 failed: exit 3",
        "  said",
        "  1970-01-01 00:00 eve w good\ufffd[2J",
        "1970-01-01 00:00 ada w_1 runs",
    ]


def test_of_no_host_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show.provisioned({})
    show.reboots({})
    show.plans({})
    show.shrunk({})
    assert capsys.readouterr().out == ""


def test_no_name_of_a_host_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[/]"
    show.plans({name: []})
    show.plans({name: [("a", "b", "c")]})
    show.provisioned({name: Provisioned(True, FRESH, {"kimpy": name})}, [name])
    show.reboots({name: FRESH})
    show.versions({name: []})
    show.versions({name: [Version("a", datetime.fromtimestamp(1, UTC), "b", "c")]})
    show.shrunk({name: Shrunk([(f"/{name}", "trimmed", 5)], (9, 7))})
    empty: dict[str, int] = {}
    show.queue(
        name,
        Overview(
            jobs=empty,
            updates=empty,
            workers=0,
            directors=0,
            running=[Running(job=name, box=name, worker=name, seconds=1)],
            minute=empty,
            failed_updates=[],
            stuck=[],
            alarms=0,
        ),
    )
    assert capsys.readouterr().out.count(name) >= 13
