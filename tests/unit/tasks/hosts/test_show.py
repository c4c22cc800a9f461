"""What a person, or a program, reads of results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deploys.facts.state import HostState, Verdict
from deploys.facts.status import status
from tasks.hosts import show
from tasks.hosts.provision import Provisioned
from tasks.hosts.shrink import Shrunk

DIGEST = "ab" * 32
FRESH = HostState(
    os_id="debian",
    os_version="13",
    boot_id="6f1c2f0e",
    kernel="6.12.9-amd64",
    uptime=5400.0,
    clock=1_795_550_400,
    has_modules=True,
    defaults={"VOLGROUP": "vagrant-pipeline"},
    verdict=Verdict("fresh", 2.5, 4.0, 6.3, "", DIGEST),
    snapshot_percent=12.5,
    sources=DIGEST,
    release={"MANIFEST": DIGEST, "COMMIT": "0123", "ROLE": "gateway"},
    provisiond={"state": "failed", "reason": "no network"},
    free={"/": 3 * 2**30},
    versions={"lammps": "20240829"},
)
REASON = "Volume group [vagrant-pipeline] has insufficient free space"
FAILED = HostState(
    verdict=Verdict("failed", reason=REASON), defaults={"VOLGROUP": "vagrant-pipeline"}
)
FULL = replace(FRESH, free={"/": 10**6}, used={"/": 10**9})
STAYS_UP = replace(FAILED, in_quarantine=True)
BARE = HostState(os_id="debian", os_version="12")
STATES = {"a.example": FRESH, "b.example:2222": FAILED, "c": BARE}


@pytest.fixture(autouse=True, params=[80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    width: int = request.param
    return width


def test_a_status_fits_the_console(capsys: pytest.CaptureFixture[str], columns: int) -> None:
    show.states(STATES)
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
    show.states({**MANY, **{f"n{each}.example": FRESH for each in range(more)}}, ["gone.example"])
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
    show.states(STATES, ["gone.example"])
    assert ["gone.example", "error"] in _table(capsys.readouterr().out)
    show.states(STATES)
    assert "uptime" in capsys.readouterr().out


def test_a_wide_status_has_all_of_a_host_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """However narrow the terminal; of few hosts too."""
    show.states({"a.example": FULL, "c.example": FAILED}, wide=True)
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
    show.states({"box": state})
    [line] = [line for line in capsys.readouterr().out.splitlines() if "firmware" in line]
    assert line.strip(" │").partition("│")[2].strip() == words
    assert status(state)["firmware"] == firmware


def test_a_reason_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show.states({"box": FAILED})
    assert "[vagrant-pipeline]" in capsys.readouterr().out
    show.reboots({"box": FAILED})
    assert REASON in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("state", "mode"), [(FAILED, "failed"), (STAYS_UP, "quarantine")])
def test_a_box_that_computes_nothing_is_red(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    state: HostState,
    mode: str,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show.states({"box": state})
    assert f"\x1b[1;31m{mode}\x1b[0m" in capsys.readouterr().out
    show.states_json({"box": state})
    assert json.loads(capsys.readouterr().out)["box"]["mode"] == mode


def test_faults_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    show.states({"box": FULL})
    assert "/ is full: 1 MB are free" in " ".join(capsys.readouterr().out.split())
    show.states_json({"box": FULL})
    assert json.loads(capsys.readouterr().out)["box"]["faults"] == ["/ is full: 1 MB are free"]


def test_status_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    show.states_json(STATES)
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
    show.states_json({})
    assert json.loads(capsys.readouterr().out) == {}


def test_of_no_host_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show.states({})
    show.provisioned({})
    show.reboots({})
    show.plans({})
    show.shrunk({})
    assert capsys.readouterr().out == ""


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


def test_a_reboot_says_what_the_reset_took(capsys: pytest.CaptureFixture[str]) -> None:
    show.reboots({"box": FRESH, "bare": BARE})
    assert capsys.readouterr().out == "box: fresh, the reset took 2.3 s\nbare: not a box\n"


def test_what_was_given_back_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["/persistent trim 3221225472", "/ reset 0", "/a b zero 1024"]
    show.shrunk({"box": Shrunk(lines, disk=(5 * 2**30, 2**30))})
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
    jobs = show.Tube("jobs", (120_000, 2, 0, 31), watching=2, total=1_000_000, rate=1199.6)
    show.tubes("gw", [show.Tube("updates", watching=1), jobs])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].strip() == "2 workers, 1 director"
    (row,) = (line.replace("│", " ").split() for line in lines if "jobs" in line)
    assert row == ["jobs", "120000", "2", "0", "31", "1000000", "1200"]
    assert "reserved" in lines[2]
    assert max(map(len, lines)) <= columns
