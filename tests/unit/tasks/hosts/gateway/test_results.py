"""A gateway's results, which boxes wrote: their names, their metadata, what is shown of them."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from deploys.errors import BoxError
from tasks.hosts import show
from tasks.hosts.connection import Host
from tasks.hosts.gateway import queue
from tasks.hosts.gateway import results as job_results


class Gateway:
    """A host that is this machine."""

    name = "gw"
    parsing = Host.parsing

    def run(self, command: str) -> str:
        argv = ["sh", "-c", command]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


GW = cast(Host, Gateway())
JOB = "TE_000000000111_000-and-MO_405512056662_005-0123456789ab"
FORGED = (
    "-\\n1796000000 ada\\0057TE_000000000901_000-and-MO_405512056662_005-32bcdfd5570d Zm8= Zm8="
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a gateway's results: one of ada's and bob's, and what bob made up."""
    names = ("odd\nname", "of two words", FORGED, "a\n b", "AAAA", f"{JOB}x", "\x1b[2J")
    for owner, name in (("ada", JOB), *(("bob", each) for each in (JOB, *names)), ("$(id)", JOB)):
        folder = tmp_path / owner / name
        folder.mkdir(parents=True)
        spec = {"test": "T__TE 1\x1b]52;c;x\x07", "model": "[/]\n", "error": "it said\nmuch"}
        (folder / "kimspec.edn").write_text(json.dumps(spec))
        (folder / "results.edn").write_text(f"[{{1 2}}]\n; of ada\n\x1b[2J{owner}\n")
    os.utime(tmp_path / "bob" / JOB / "kimspec.edn", (2**36, 2**36))  # no such date
    monkeypatch.setattr(job_results, "RESULTS", str(tmp_path))
    return tmp_path


@pytest.mark.commands
@pytest.mark.usefixtures("results")
def test_names_that_a_worker_made_up_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """They forged a row with owner, test and manifest, or ended the list."""
    found = job_results.newest_results(GW, 2)
    assert [(each.owner, each.job) for each in found] == [("bob", JOB), ("ada", JOB)]
    show.results("gw", found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(f" ada {JOB} T__TE_1\ufffd]52;c;x\ufffd [/] - failed: it said much")


@pytest.mark.commands
def test_a_second_result_is_told_beside_the_first(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A box may send folders of any other name, too."""
    for name in (f"{JOB}.2", f"{JOB}.10", f"{JOB}.0", f"{JOB}.x", f"{JOB}.2.2", f"{JOB}.3\nbob"):
        (results / "ada" / name).mkdir()
        for file in ("kimspec.edn", "results.edn"):
            (results / "ada" / name / file).write_text("{}")
    told = [("ada", JOB), ("bob", JOB), ("ada", f"{JOB}.2"), ("ada", f"{JOB}.10")]
    found = job_results.read_result(GW, JOB)
    assert [(each.owner, each.folder) for each in found] == told
    show.result(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "; these 4 results of one job differ"
    assert f"; of ada, {JOB}.10" in lines
    show.result(found[2:])
    assert "differ" not in capsys.readouterr().out
    listed = job_results.newest_results(GW, 20)
    assert sorted((each.owner, each.folder) for each in listed) == sorted(told)
    assert {each.job for each in listed} == {JOB}
    command = queue._ABOUT_ITEM.format(
        items=results,
        item="x",
        director="x",
        models="x",
        results=results,
        place=job_results.PLACE,
        code="MO_405512056662_005",
    )
    assert GW.run(command).split()[2] == "1"


@pytest.mark.commands
@pytest.mark.usefixtures("results")
def test_results_for_programs_have_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.as_json(job_results.newest_results(GW, 1))
    show.as_json(job_results.read_result(GW, JOB))
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    listed, _, read = out.partition("\n]\n")
    [row] = json.loads(f"{listed}]")
    assert (row["owner"], row["job"]) == ("bob", JOB)
    assert datetime.fromisoformat(row["when"]).year > 2400
    assert row["test"] == "T__TE 1\x1b]52;c;x\x07"
    assert [each["owner"] for each in json.loads(read)] == ["ada", "bob"]


@pytest.mark.commands
@pytest.mark.usefixtures("results")
def test_a_result_names_its_owner_and_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    show.result(job_results.read_result(GW, JOB))
    texts = [
        f"; of {owner}\n  [{{1 2}}]\n  ; of ada\n  \ufffd[2J{owner}\n" for owner in ("ada", "bob")
    ]
    out = capsys.readouterr().out
    assert out == "; these 2 results of one job differ\n" + "".join(texts)
    for name in ("*", "no-such", "$(touch /tmp/it-ran)", "../x"):
        with pytest.raises(BoxError, match="is no id of a job"):
            job_results.read_result(GW, name)
    with pytest.raises(BoxError, match="gw has no results of TE_"):
        job_results.read_result(GW, JOB.replace("111", "112"))
