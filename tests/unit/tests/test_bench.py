"""The benches' judgement: ratios, targets, what is shown, and what ends with which exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from deploys.errors import BoxError
from tasks import dev
from tests.bench import benches as bench
from tests.bench import build
from tests.bench import package as package_bench
from tests.bench import resnap as resnap_bench
from tests.bench.benches import Outcome
from tests.bench.shared.rows import Row, Target
from tests.bench.up import peak

HIGH = Target(high=0.2)


@pytest.mark.parametrize(
    ("row", "ratio", "met"),
    [
        (Row("pass", "s", 1, 10, HIGH), 0.1, True),
        (Row("pass", "s", 2, 10, HIGH), 0.2, True),
        (Row("pass", "s", 3, 10, HIGH), 0.3, False),
        (Row("pass", "s", 3, 0, HIGH), None, False),  # nothing to compare with is no success
        (Row("alike", "s", 7, 10, Target(0.8, 1.2)), 0.7, False),
        (Row("alike", "s", 13, 10, Target(0.8, 1.2)), 1.3, False),
        (Row("alike", "s", 11, 10, Target(0.8, 1.2)), 1.1, True),
        (Row("memory", "MB", 299, target=Target(high=300)), None, True),
        (Row("memory", "MB", 301, target=Target(high=300)), None, False),
        (Row("beside", "MB/s", 5, 10), 0.5, None),
    ],
)
def test_a_row_is_judged_by_its_ratio_or_by_itself(
    row: Row, ratio: float | None, met: bool | None
) -> None:
    """A ratio where there is a peer; no word where nothing was promised."""
    assert row.ratio == (ratio if ratio is None else pytest.approx(ratio))
    assert row.met is met


@pytest.mark.parametrize(
    ("target", "text"),
    [(HIGH, "<= 0.2"), (Target(low=0.9), ">= 0.9"), (Target(0.8, 1.2), ">= 0.8 and <= 1.2")],
)
def test_a_target_in_words(target: Target, text: str) -> None:
    assert str(target) == text


def test_a_reset_that_depends_on_what_was_written_is_seen() -> None:
    """Each boot is held to 5 %, and the two resets to each other."""
    idle, busy = resnap_bench.Boot(1.0, 40.0), resnap_bench.Boot(2.1, 41.0)
    assert [row.met for row in resnap_bench.rows(idle, busy)] == [True, False, False]


def test_packaging_is_held_to_the_slowest_format_and_the_used_blocks() -> None:
    alone, sizes = {"virtualbox": 20.0, "ova": 30.0}, {"virtualbox": 106, "ova": 200}
    met = [row.met for row in package_bench.rows(alone, 74, sizes, 100)]
    assert met == [None, None, True, False, None]


def test_holes_are_not_used_blocks(tmp_path: Path) -> None:
    image, blocks = tmp_path / "sparse", os.urandom(2**16)
    with image.open("wb") as file:
        for place in (0, 2**30):
            file.seek(place)
            file.write(blocks)
        file.truncate(2**33)
    assert 2 * 2**16 < package_bench.compressed(image) < 2.1 * 2**16


def test_a_build_is_told_step_by_step() -> None:
    said = (
        "box    1.0 s  asking the mirror\n"
        "box    3.5 s  applying the deploys\n"
        "box    4.0 s  applying the deploys (1/2): Boot | Boot files\n"
        "box    9.5 s  writing root\n"
        "box   12.0 s  built\n"
    )
    assert build.steps(said) == [
        ("asking the mirror", 2.5),
        ("applying the deploys", 6.0),
        ("writing root", 2.5),
    ]


def test_one_slow_boot_of_several_does_not_decide() -> None:
    """The medians, each of its own."""
    boots = [resnap_bench.Boot(2.0, 58.0), resnap_bench.Boot(9.0, 60.0), resnap_bench.Boot(1.9, 90)]
    assert resnap_bench.middle(boots) == resnap_bench.Boot(2.0, 60.0)


def test_the_peak_is_read_from_proc() -> None:
    """Kibibytes there, megabytes here."""
    assert peak("VmPeak:\t999 kB\nVmHWM:\t  100000 kB\nVmRSS:\t 1 kB\n") == pytest.approx(102.4)


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Benches and a machine that measure nothing."""
    found: dict[str, Any] = {
        "good": lambda step: step("measuring") or [Row("g", "s", 1, 10, HIGH)],
        "slow": lambda _step: [Row("s", "s", 9, 10, HIGH)],
    }

    def broken(_step: Any) -> list[Row]:
        raise BoxError("no guest runs here")

    found["broken"] = broken
    monkeypatch.setattr(bench, "BENCHES", found)
    monkeypatch.setattr(bench, "machine", lambda: {"cpus": 2})
    return found


@pytest.mark.usefixtures("benches")
def test_all_are_run_whatever_becomes_of_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A missed target and an error are in the table and the JSON, and in the exit code."""
    file = tmp_path / "out.json"
    assert bench.main(json=str(file)) == 1
    said = json.loads(file.read_text())
    assert said["machine"] == {"cpus": 2}
    assert said["benches"]["good"]["rows"][0]["met"] is True
    assert said["benches"]["slow"]["rows"][0]["met"] is False
    assert said["benches"]["broken"] == {"rows": [], "error": "no guest runs here"}
    table, errors = capsys.readouterr()
    assert "0.900" in table
    assert "not measured" in table
    assert "error: broken: no guest runs here" in errors


@pytest.mark.usefixtures("benches")
def test_one_by_its_name_that_meets_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else is run, and the exit code is 0."""
    assert bench.main("good") == 0
    table = capsys.readouterr().out
    assert "yes" in table
    assert "slow" not in table


@pytest.mark.usefixtures("benches")
def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    """The task says it in one line."""
    line = "^error: there is no bench 'god'; did you mean 'good'[?] there are good, slow, broken$"
    with pytest.raises(Exit, match=line):
        dev.bench(Context(), name="god")


@pytest.mark.usefixtures("benches")
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="No such file"):
        bench.main("good", json=str(tmp_path / "none" / "out.json"))


def test_every_bench_of_the_promises_is_there() -> None:
    promised = [
        "build",
        "director",
        "package",
        "provision",
        "queue",
        "resnap",
        "root",
        "shrink",
        "up",
        "worker",
    ]
    assert list(bench.BENCHES) == promised


def test_the_bench_that_failed_is_not_good() -> None:
    assert not Outcome("up", error="it failed").good
    assert Outcome("up", [Row("beside", "MB/s", 5, 10)]).good


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("inv bench", False),
        ("inv bench --json out.json", False),
        ("inv bench --name=root", False),
        ("inv bench --name root", False),
        ("inv bench -j out.json", False),
        ("inv bench --json=out.json resnap", True),
        ("inv bench resnap", True),
        ("inv bench nope", True),
        ("inv bench --json out.json resnap", True),
        ("inv status", False),
        ("fab -H resnap status", False),
    ],
)
def test_a_name_on_the_command_line_is_seen(line: str, named: bool) -> None:
    """With the words of Invoke's parser it would be a task of its own, or nothing at all."""
    assert dev.names_a_bench(line.split()) is named
