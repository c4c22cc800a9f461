"""The queue of a gateway, as a box reaches it: what it was told is there after it was killed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kimpipeline.errors import LostError, QueueError
from kimpipeline.kim.kimid import job_id
from kimpipeline.queue.jobs import Jobs
from kimpipeline.queue.messages import Job
from kimpipeline.queue.updates import Entry, Updates
from tests.storage.gateway.gateway import HOST, Gateway

MODEL = "Pair_Al__MO_000000000903_000"


def entry(number: int) -> Entry:
    test = f"Energy__TE_{number:012d}_000"
    return Entry(Job(job=job_id(test, MODEL, []), test=test, model=MODEL))


def add(gateway: Gateway, *entries: Entry) -> None:
    """Have a director of ada's make these jobs."""
    gateway.sql("select pipeline.submit('x', 1, 'approved')")
    with gateway.database("ada") as settings, Updates(settings) as updates:
        taken = updates.take(5)
        assert taken
        assert updates.add(taken, entries) == len(entries)
        updates.finish(taken, "")


@pytest.fixture(autouse=True)
def empty(gateway: Gateway) -> Iterator[None]:
    """No job is left of these tests."""
    yield
    gateway.sql("truncate pipeline.jobs, pipeline.attempts, pipeline.changes cascade")


def test_a_kill_loses_no_job(gateway: Gateway) -> None:
    add(gateway, entry(1), entry(2))
    with gateway.database("ada") as settings:
        with Jobs(settings, "w") as jobs:
            first, second = jobs.take(5), jobs.take(5)
            assert first
            assert second
            jobs.finish(first, 1, "[1]")
            gateway.kill("postgres")
            with pytest.raises(QueueError):
                jobs.touch(second)
        gateway.start("database")
        with Jobs(settings, "w") as jobs:
            jobs.finish(second, 1, "[2]")
    assert gateway.sql("select count(*) from pipeline.jobs where state = 'done'") == "2"


def test_a_box_is_who_its_key_says(gateway: Gateway) -> None:
    """Whatever name it gives; and another owner's box has no say over its jobs."""
    add(gateway, entry(3))
    with (
        gateway.database("ada", user="bob") as hers,
        gateway.database("bob", user="postgres") as his,
        Jobs(hers, "w") as jobs,
        Jobs(his, "w") as others,
    ):
        lease = jobs.take(5)
        assert lease
        assert jobs.rows("version")
        with pytest.raises(LostError):
            others.finish(lease, 1, "[forged]")
        jobs.finish(lease, 1, "[1]")
    boxes = gateway.sql("select distinct box from pipeline.attempts order by 1").split()
    assert boxes == ["ada"]


@pytest.mark.parametrize(
    "sent", ["GET / HTTP/1.0\r\n\r\n", "\0" * 8, "\0\0\0\x10\x04\xd2\x16.aaaabbbb", ""]
)
def test_what_is_not_postgresqls_protocol_is_refused(gateway: Gateway, sent: str) -> None:
    told = gateway.by_key("ada", HOST, "queue", stdin=sent)
    assert (told.returncode, told.stdout) == (1, "")
    assert "Traceback" not in told.stderr


def test_it_listens_on_no_network(gateway: Gateway) -> None:
    listening = gateway.world.run("ss", "--listening", "--tcp", "--numeric", "--no-header")
    assert {line.split()[3] for line in listening.splitlines()} == {"0.0.0.0:22", "[::]:22"}


@pytest.mark.parametrize("user", ["nobody", "ada", "pipeline"])
def test_no_other_user_of_the_gateway_comes_in(gateway: Gateway, user: str) -> None:
    for role in ("postgres", "root", "pipeline_operator", "ada" if user != "pipeline" else "root"):
        words = ("psql", "-d", "pipeline", "-U", role, "-c", "select 1")
        command = " ".join(["runuser", "-u", user, "--", *words[:-1], "'select 1'"])
        assert gateway.inside("sh", "-c", f"{command} >/dev/null 2>&1 && echo in || echo out") == (
            "out\n"
        )


_OLD = "/persistent/pipeline/director.sqlite"
_MAKE = """
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("pragma journal_mode = wal")
database.execute("create table jobs (job text, state text, priority int, body text, needs text,"
    " after int, result text, reason text, log text)")
for state, body in json.loads(sys.argv[2]):
    database.execute("insert into jobs values ('', ?, 5, ?, '', 0, '[1]', 'why', 'log')",
        (state, json.dumps(body)))
database.commit()
import os
os._exit(0)  # as if its power went: the rows are in the log still
"""


def test_the_jobs_of_an_older_version_are_taken_over(gateway: Gateway) -> None:
    """Those that have ended: they do not run again."""
    gateway.inside("mkdir", "-p", "/persistent/pipeline")
    bodies = [entry(number).job.model_dump(mode="json") for number in (1, 2, 3)]
    rows = json.dumps(list(zip(("done", "failed", "queued"), bodies, strict=True)))
    gateway.inside("python3", "-c", _MAKE, _OLD, rows)
    gateway.inside("/usr/lib/gateway/database", "update")
    ids = [body["job"] for body in bodies]
    told = gateway.sql("select id, state, good is null from pipeline.jobs order by id").splitlines()
    assert told == [f"{ids[0]}|done|f", f"{ids[1]}|failed|t"]
    left = gateway.inside("ls", "/persistent/pipeline").split()
    assert "director.sqlite.old" in left
    assert "director.sqlite" not in left
    gateway.sql("select pipeline.submit('x', 1, 'approved')")
    with gateway.database("ada") as settings, Updates(settings) as updates:
        taken = updates.take(5)
        assert taken
        assert updates.add(taken, [entry(1), entry(2), entry(3)]) == 1
        updates.finish(taken, "")
    gateway.inside("rm", "-r", "/persistent/pipeline")


@pytest.mark.parametrize("form", ["mkfifo {}", "ln -s /etc/shadow {}", "echo nonsense >{}"])
def test_what_is_no_ledger_stops_nothing(gateway: Gateway, form: str) -> None:
    gateway.inside("sh", "-c", f"mkdir -p /persistent/pipeline && {form.format(_OLD)}")
    gateway.inside("timeout", "30", "/usr/lib/gateway/database", "update")
    assert gateway.sql("select count(*) from pipeline.jobs") == "0"
    gateway.inside("rm", "-r", "/persistent/pipeline")
