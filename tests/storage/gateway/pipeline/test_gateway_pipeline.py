"""What an operator has run, watches and reads on a gateway, with fab over a real sshd."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kimpipeline.kim.kimid import job_id
from kimpipeline.queue.jobs import Jobs
from kimpipeline.queue.messages import Job
from kimpipeline.queue.updates import Entry, Updates
from tests.storage.gateway.gateway import ITEM, Gateway

PAIR = ("Energy__TE_000000000001_000", "Pair_Al__MO_000000000903_000")
JOB = "TE_000000000111_000-and-MO_405512056662_005-0123456789ab"


def waiting(gateway: Gateway) -> list[str]:
    """The updates that wait, which wait no more."""
    columns = "concat_ws(' ', kimid, priority, status)"
    told = gateway.sql(f"select {columns} from pipeline.updates where state = 'ready'")
    gateway.sql("update pipeline.updates set state = 'done'")
    return told.splitlines()


@pytest.fixture
def results(gateway: Gateway) -> Iterator[None]:
    """Two results of bob's: one good, one whose worker would like to write to the terminal."""
    specs = {
        JOB: '{"test" "T__TE_000000000111_000" "model" "M__MO_405512056662_005"}',
        f"{JOB[:-1]}c": '{"test" "T" "model" "M\\u001b[2J" "error" "it said\\nmuch"}',
        f"{JOB[:-1]}d": "[" * 5000,
    }
    for name, spec in specs.items():
        folder = gateway.results("bob") / name
        folder.mkdir()
        (folder / "kimspec.edn").write_text(spec)
    good = gateway.results("bob") / JOB
    (good / "pipelinespec.edn").write_text('{"provenance" {"manifest" "abcdef0123456789ff"}}')
    (good / "results.edn").write_text("[{1 2}]\n")
    yield
    for name in specs:
        for file in (gateway.results("bob") / name).iterdir():
            file.unlink()
        (gateway.results("bob") / name).rmdir()


def test_an_update_is_put_on_the_queue(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.submit", ITEM, "--priority", "7")
    assert (told.returncode, told.stderr) == (0, "")
    assert f"127.0.0.1: {ITEM} is on the queue\n" in told.stdout
    table = gateway.fab("pipeline.queue", "--once").stdout
    row = next(line for line in table.splitlines() if "updates" in line)
    assert row.split("│")[3].strip() == "1"
    seen = json.loads(gateway.fab("pipeline.queue", "--json").stdout)
    assert seen["updates"]["ready"] == 1
    assert waiting(gateway) == [f"{ITEM} 7 approved"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("No__MO_000000000000_000",), "127.0.0.1 has no item No__MO_000000000000_000 in /srv"),
        (("../../etc",), "'../../etc' is no KIM id"),
        (("$(touch /tmp/it-ran)",), "is no KIM id"),
        ((ITEM, "--priority", "-1"), "greater than or equal to 0"),
        ((ITEM, "--status", "other"), "'approved' or 'pending'"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    gateway: Gateway, words: tuple[str, ...], line: str
) -> None:
    told = gateway.fab("pipeline.submit", *words)
    assert told.returncode == 1
    assert told.stderr.startswith("error: ")
    assert line in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert waiting(gateway) == []


@pytest.mark.usefixtures("results")
def test_what_has_results_already_is_said(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.submit", ITEM)
    line = f"{ITEM} is on the queue; 3 of its pairs have results, and run again only in other"
    assert line in told.stdout
    assert len(waiting(gateway)) == 1


@pytest.fixture
def director(gateway: Gateway) -> Iterator[None]:
    """The gateway has a director of its own."""
    wants = gateway.root / "etc/systemd/system/multi-user.target.wants/pipeline-director.service"
    unit = gateway.root / "etc/systemd/system/pipeline-director.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    wants.parent.mkdir(exist_ok=True)
    wants.symlink_to("../pipeline-director.service")
    yield
    wants.unlink()
    unit.unlink()


@pytest.mark.usefixtures("director")
def test_a_model_that_the_director_lacks_is_refused(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.submit", ITEM)
    assert told.returncode == 1
    line = f"error: 127.0.0.1 makes jobs, and its KIM API has no Model {ITEM}: install it there"
    assert told.stderr.startswith(line)
    assert waiting(gateway) == []
    installed = gateway.root / "usr/lib/x86_64-linux-gnu/kim-api/portable-models" / ITEM
    installed.mkdir(parents=True)
    told = gateway.fab("pipeline.submit", ITEM)
    installed.rmdir()
    assert f"127.0.0.1: {ITEM} is on the queue\n" in told.stdout
    assert len(waiting(gateway)) == 1


@pytest.mark.usefixtures("results")
def test_results_are_listed_whatever_a_worker_wrote(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.results")
    assert (told.returncode, told.stderr) == (0, "")
    lines = {line.split()[3]: line for line in told.stdout.splitlines()}
    assert len(lines) == 3
    wanted = f"bob {JOB} T__TE_000000000111_000 M__MO_405512056662_005 abcdef0123456789 good"
    assert wanted in lines[JOB]
    assert "M\ufffd[2J" in lines[f"{JOB[:-1]}c"]
    assert "failed: it said much" in lines[f"{JOB[:-1]}c"]


@pytest.mark.usefixtures("results")
def test_one_result_is_shown(gateway: Gateway) -> None:
    assert gateway.fab("pipeline.results", "--job", JOB).stdout == "; of bob\n  [{1 2}]\n"
    for name in ("no-such", "$(touch /tmp/it-ran)", "../x"):
        told = gateway.fab("pipeline.results", "--job", name)
        assert told.returncode == 1
        assert "is no id of a job" in told.stderr
    assert not (gateway.root / "tmp/it-ran").exists()


def test_a_queue_that_is_away_is_one_line(gateway: Gateway) -> None:
    gateway.kill("postgres")
    told = gateway.fab("pipeline.queue", "--once")
    gateway.start("database")
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 1
    assert "127.0.0.1" in told.stderr


@pytest.fixture
def failed(gateway: Gateway) -> Iterator[str]:
    """A job that failed."""
    gateway.sql("select pipeline.submit('x', 1, 'approved')")
    with gateway.database("ada") as settings:
        with Updates(settings) as updates:
            taken = updates.take(5)
            assert taken
            job = Job(job=job_id(*PAIR, []), test=PAIR[0], model=PAIR[1])
            updates.add(taken, [Entry(job)])
            updates.finish(taken, "")
        with Jobs(settings, "w1/0") as jobs:
            lease = jobs.take(5)
            assert lease
            jobs.fail(lease, "exit code 3", "its words\x1b[2J")
    yield job.job
    gateway.sql("truncate pipeline.jobs, pipeline.attempts, pipeline.changes cascade")


def test_a_failed_job_is_read_run_again_and_cancelled(gateway: Gateway, failed: str) -> None:
    told = gateway.fab("pipeline.log", failed).stdout.splitlines()
    assert told[0].endswith(" ada w1/0 failed: exit code 3")
    assert told[1:] == ["  its words\ufffd[2J"]
    (attempt,) = json.loads(gateway.fab("pipeline.log", failed, "--json").stdout)
    assert (attempt["box"], attempt["how"]) == ("ada", "failed")
    state = "select state from pipeline.jobs"
    assert gateway.fab("pipeline.retry", "--failed").stdout == "127.0.0.1: 1 jobs run again\n"
    assert gateway.sql(state) == "ready"
    cancelled = gateway.fab("pipeline.cancel", failed).stdout
    assert cancelled == "127.0.0.1: 1 jobs are cancelled\n"
    assert gateway.sql(state) == "cancelled"
    assert "1 jobs run again" in gateway.fab("pipeline.retry", "--jobs", failed).stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("retry",), "say --jobs JOB,... or --failed"),
        (("retry", "--jobs", "x'; drop schema pipeline"), "is no id of a job"),
        (("cancel", "x"), "is no id of a job"),
        (("log", JOB), f"no worker of 127.0.0.1 has had {JOB}"),
    ],
)
def test_what_is_no_job_is_one_line(gateway: Gateway, words: tuple[str, ...], line: str) -> None:
    told = gateway.fab(f"pipeline.{words[0]}", *words[1:])
    assert told.returncode == 1
    assert line in told.stderr
    assert len(told.stderr.splitlines()) == 1
