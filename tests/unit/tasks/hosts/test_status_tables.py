"""The status of hosts, as a person or a program reads it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deploys.facts.host_state import parsed
from deploys.facts.state import HostState, Verdict
from deploys.facts.status import status
from tasks.hosts import status_tables
from tests.unit.tasks.hosts.states import (
    DIGEST,
    FAILED,
    FRESH,
    FULL,
    REASON,
    STATES,
    STAYS_UP,
)


@pytest.fixture(autouse=True, params=[80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    width: int = request.param
    return width


def test_a_status_fits_the_console(capsys: pytest.CaptureFixture[str], columns: int) -> None:
    status_tables.tables(STATES)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    words = out.split()
    for word in ("fresh", "snapshot", "12.5", "6.12.9-amd64", "lammps", "match", "gateway"):
        assert word in words, word
    assert "maintenance" not in words
    assert "\x1b" not in out


MANY = {
    "a.cluster.example.org": FRESH,
    "b.example": replace(FRESH, verdict=Verdict("kept", 2.5, 4.0, 6.3, "", DIGEST)),
    "c.example": FAILED,
    "d.example": FULL,
}


def _table(out: str) -> list[list[str]]:
    lines = [line for line in out.splitlines() if ".example" in line and ": " not in line]
    return [line.split() for line in lines]


@pytest.mark.parametrize("more", [0, 96])
def test_of_four_hosts_on_each_has_a_row(
    more: int, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """What is wrong is below, a line each; a host that could not be asked is in its row."""
    status_tables.tables(
        {**MANY, **{f"n{each}.example": FRESH for each in range(more)}}, ["gone.example"]
    )
    out = capsys.readouterr().out
    rows = _table(out)
    assert rows[:4] == [
        ["a.cluster.example.org", "snapshot", "gateway", "12.5", "%", DIGEST[:8]],
        ["b.example", "snapshot,", "kept", "gateway", "12.5", "%", DIGEST[:8]],
        ["c.example", "failed", "1"],
        ["d.example", "snapshot", "gateway", "12.5", "%", DIGEST[:8], "1"],
    ]
    assert rows[-1] == ["gone.example", "error"]
    assert len(rows) == 5 + more
    table, below = out.splitlines()[:-2], out.splitlines()[-2:]
    assert max(map(len, table)) <= columns
    assert below == [
        f"c.example: the last reset failed: {REASON}",
        "d.example: / is full: 1 MB are free",
    ]


def test_three_hosts_of_which_one_is_away_have_columns_no_longer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status_tables.tables(STATES, ["gone.example"])
    assert ["gone.example", "error"] in _table(capsys.readouterr().out)
    status_tables.tables(STATES)
    assert "uptime" in capsys.readouterr().out


def test_a_wide_status_has_all_of_a_host_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """However narrow the terminal; of few hosts too."""
    status_tables.tables({"a.example": FULL, "c.example": FAILED}, wide=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    [line] = [line for line in lines if "a.example" in line]
    for words in ("/ is full: 1 MB are free", "fresh in 2.3 s", DIGEST[:16], "lammps 20240829"):
        assert words in line
    assert any(REASON in line for line in lines)
    assert "uptime" in lines[1]


@pytest.mark.parametrize(
    ("firmware", "secure", "words"),
    [("bios", False, "BIOS"), ("uefi", False, "UEFI"), ("uefi", True, "UEFI, Secure Boot")],
)
def test_the_firmware_is_named(
    capsys: pytest.CaptureFixture[str], firmware: str, secure: bool, words: str
) -> None:
    state = replace(FRESH, firmware=firmware, secure_boot=secure)
    status_tables.tables({"box": state})
    [line] = [line for line in capsys.readouterr().out.splitlines() if "firmware" in line]
    assert line.strip(" │").partition("│")[2].strip() == words
    assert status(state)["firmware"] == firmware


@pytest.mark.parametrize(("state", "mode"), [(FAILED, "failed"), (STAYS_UP, "quarantine")])
def test_a_box_that_computes_nothing_is_red(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    state: HostState,
    mode: str,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    status_tables.tables({"box": state})
    assert f"\x1b[1;31m{mode}\x1b[0m" in capsys.readouterr().out
    status_tables.as_json({"box": state})
    assert json.loads(capsys.readouterr().out)["box"]["mode"] == mode


def test_faults_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    status_tables.tables({"box": FULL})
    assert "/ is full: 1 MB are free" in " ".join(capsys.readouterr().out.split())
    status_tables.as_json({"box": FULL})
    assert json.loads(capsys.readouterr().out)["box"]["faults"] == ["/ is full: 1 MB are free"]


def test_status_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    status_tables.as_json(STATES)
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(STATES)
    fresh, failed, bare = told.values()
    assert (fresh["mode"], fresh["reset_seconds"], fresh["initrd_matches"]) == (
        "snapshot",
        2.3,
        True,
    )
    assert (fresh["snapshot_percent"], fresh["manifest"], fresh["commit"]) == (12.5, DIGEST, "0123")
    assert (fresh["verdict"]["name"], fresh["role"], bare["role"]) == ("fresh", "gateway", None)
    assert fresh["reset_at"] == "2026-11-24T18:30:06+00:00"
    assert (failed["mode"], failed["verdict"]["reason"]) == ("failed", REASON)
    assert (bare["mode"], bare["verdict"], bare["manifest"]) == ("not a box", None, None)


def test_of_no_host_there_is_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    status_tables.as_json({})
    assert json.loads(capsys.readouterr().out) == {}


def test_a_reason_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    status_tables.tables({"box": FAILED})
    assert "[vagrant-pipeline]" in capsys.readouterr().out


def test_of_no_host_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    status_tables.tables({})
    assert capsys.readouterr().out == ""


ODD = "[/]"
HOSTILE = replace(
    FRESH,
    os_id=ODD,
    kernel=ODD,
    provisiond={"state": ODD},
    versions={"lammps": ODD},
    free={"/[/]": 1},
    release={"ROLE": ODD, "MANIFEST": ODD},
)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("more", [0, 3])
def test_no_word_of_a_host_and_no_name_is_markup(
    more: int, wide: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """One host would end the report of all."""
    others = {f"{number}.example": FRESH for number in range(more)}
    status_tables.tables({ODD: HOSTILE, **others}, ["[/b]"], wide=wide)
    out = capsys.readouterr().out
    assert ODD in out
    assert all(name in out for name in others)


def test_a_number_that_is_none_on_one_host_ends_no_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after a slip of the operator's in /etc/default/resnap, or in a log."""
    words = {**FRESH.defaults, "WARN_PERCENT": "80%", "RESET_PERCENT": ""}
    late = parsed(["@rolled_back", f"{'9' * 20} why"]).rolled_back
    status_tables.tables({"a": replace(FRESH, defaults=words, rolled_back=late), "b": FRESH})
    assert "fresh" in capsys.readouterr().out
