"""What a hostile box tries in a real PostgreSQL, with the key of a worker or of a director."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import psycopg
import pytest
from psycopg import errors

from kimpipeline.errors import LostError, MessageError, QueueError
from kimpipeline.queue.jobs import MOST, Jobs, Lease
from kimpipeline.queue.updates import Updates
from tests.pipeline.queue.boxes import add, entry, name, states, take, worker
from tests.pipeline.queue.server import Server

FORBIDDEN = [
    "select * from pipeline.jobs",
    "select * from pipeline.attempts",
    "insert into pipeline.attempts (job, box, worker, lease, how, ended) values"
    " ('x', 'w2', 'x', now(), 'good', now())",
    "update pipeline.jobs set state = 'done'",
    "delete from pipeline.jobs",
    "truncate pipeline.jobs cascade",
    "drop schema pipeline cascade",
    "alter table pipeline.jobs disable trigger all",
    "begin; lock table pipeline.jobs in access share mode",
    "select pipeline.lose(1, '')",
    "select pipeline.reap()",
    "select pipeline.held(1)",
    "select pipeline.cancel(null)",
    "select pipeline.retry(null)",
    "select pipeline.disown('w2')",
    "select pipeline.overview()",
    "select pipeline.submit('x', 1, 'approved')",
    "select pipeline.add_box('w9', 'eve', '{worker}')",
    "call pipeline.revoke_box('w2')",
    "select pipeline.guard()",
    "select pipeline.keep_settings('w1')",
    "call pipeline.keep_boxes('{}')",
    "create table public.x ()",
    "create schema x",
    "create temporary table x ()",
    "create role x",
    "create function public.x() returns int language sql return 1",
    "do $$ begin loop end loop; end $$",
    "set role pipeline",
    "set session authorization w2",
    "grant pipeline to w1",
    "alter role w1 connection limit -1",
    "alter role w1 superuser",
    "set temp_file_limit = -1",
    "set log_statement = 'all'",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'w2'",
    "select pg_read_file('/etc/passwd')",
    "copy (select 1) to '/tmp/x'",
    "copy (select 1) to program 'id'",
    "select pg_advisory_lock(1)",
    "select lo_create(0)",
    "select pg_logical_emit_message(false, 'x', 'x')",
    "select pg_sleep(100)",
    "select pg_reload_conf()",
    "checkpoint",
    "begin; prepare transaction 'x'",
]


@pytest.mark.parametrize("user", ["w1", "d1"])
def test_no_box_may_do_but_its_functions(user: str, server: Server) -> None:
    add(server, entry(1))
    with worker(server, "w2") as honest, server.connect(user) as connection:
        lease = take(honest)
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(statement.encode())
            assert isinstance(
                caught.value, errors.InsufficientPrivilege | errors.ObjectNotInPrerequisiteState
            ), f"{statement}: {caught.value}"
            connection.rollback()
        honest.finish(lease, 1, "[1]")
    assert states(server) == {name(1): "done"}


@pytest.mark.parametrize(
    "call",
    [
        "finish({}, 1, '[forged]')",
        "fail({}, 'forged', '')",
        "give_back({}, 3600)",
        "touch({}, 3600)",
    ],
)
def test_a_box_touches_no_job_but_its_own(call: str, server: Server) -> None:
    """Of another box; one that has ended; one that never was; and a director none at all."""
    add(server, entry(1), entry(2))
    with worker(server, "w2") as honest:
        first, lease = take(honest), take(honest)
        honest.finish(first, 1, "[1]")
        for attempt in (first.attempt, lease.attempt, 99, -1, "null"):
            with pytest.raises(psycopg.Error) as caught:
                server.sql(f"select pipeline.{call.format(attempt)}", user="w1")
            assert caught.value.sqlstate == "PL001"
        with pytest.raises(errors.InsufficientPrivilege):
            server.sql(f"select pipeline.{call.format(lease.attempt)}", user="d1")
        honest.touch(lease)
        honest.finish(lease, 1, "[2]")
    assert server.sql("select results from pipeline.attempts order by id") == [("[1]",), ("[2]",)]


def test_a_director_makes_jobs_only_of_an_update_that_it_has(server: Server) -> None:
    server.sql("select pipeline.submit('x', 1, 'approved')")
    with Updates(server.settings("d1")) as updates, Updates(server.settings("d2")) as other:
        taken = updates.take(0)
        assert taken
        assert other.take(0) is None
        calls = (
            lambda: other.add(taken, [entry(1)]),
            lambda: other.finish(taken, ""),
            lambda: other.fail(taken, ""),
            lambda: other.give_back(taken, 0),
            lambda: other.touch(taken),
        )
        for call in calls:
            with pytest.raises(LostError):
                call()
        assert updates.add(taken, [entry(1)]) == 1
    assert states(server) == {name(1): "ready"}


def test_one_box_does_not_take_all_jobs(server: Server) -> None:
    server.sql("update pipeline.boxes set slots = 2")
    add(server, *(entry(number) for number in range(1, 5)))
    with worker(server) as jobs, worker(server, "w2") as other:
        take(jobs), take(jobs)
        with pytest.raises(MessageError, match="this box has 2 jobs already"):
            jobs.take(0)
        take(other)


@pytest.mark.parametrize("end", [Jobs.give_back, lambda jobs, lease: jobs.fail(lease, "x", "x")])
def test_one_box_does_not_fill_the_disk_by_ending_jobs(
    server: Server, end: Callable[[Jobs, Lease], None]
) -> None:
    """By giving them back, or failing them."""
    add(server, entry(1), entry(2))
    with worker(server) as jobs, worker(server, "w2") as other:
        end(jobs, take(jobs))
        server.sql(
            "insert into pipeline.attempts (job, box, worker, lease, ended, how) select job, box,"
            " worker, lease, ended, how from pipeline.attempts, generate_series(1, 2000)"
        )
        with pytest.raises(MessageError, match="given back, lost or failed 2000 jobs"):
            jobs.take(0)
        assert take(other)


def test_one_box_takes_no_others_connections(server: Server) -> None:
    server.sql("alter role w1 connection limit 3")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(worker(server))
        with pytest.raises(QueueError, match=r'^the queue: .*too many connections for role "w1"$'):
            worker(server)
        stack.enter_context(worker(server, "w2"))


def test_one_who_holds_a_transaction_is_put_out(server: Server) -> None:
    """Though it took its own timeouts away; what it had locked goes on."""
    add(server, entry(1))
    with server.connect("w1") as hostile:
        hostile.execute("set idle_in_transaction_session_timeout = 0")
        hostile.execute("set statement_timeout = 0")
        hostile.execute("begin")
        hostile.execute("select * from pipeline.take('x', 3600)")
        assert server.sql("select pipeline.guard()") == [(0,)]
        time.sleep(2.1)
        assert server.sql("select pipeline.guard()") == [(1,)]
        with suppress(psycopg.Error):
            hostile.execute("commit")
        assert hostile.closed
    with worker(server) as jobs:
        assert take(jobs).name == name(1)


def test_no_sort_of_a_box_fills_the_disk(server: Server) -> None:
    with pytest.raises(errors.ConfigurationLimitExceeded, match="temp_file_limit"):
        server.sql("select n from generate_series(1, 20000000) n order by n desc", user="w1")


def test_results_have_a_limit(server: Server) -> None:
    """What is longer stays in the store alone."""
    add(server, entry(1))
    with worker(server) as jobs:
        lease = take(jobs)
        with pytest.raises(MessageError, match="attempts_results_check"):
            jobs.call("finish", lease.attempt, 1.0, "x" * (MOST + 1))
        jobs.finish(lease, 1, "x" * (MOST + 1))
    assert server.sql("select how, results from pipeline.attempts") == [("good", None)]


def test_a_box_that_is_revoked_is_out_at_once(server: Server) -> None:
    """Its connections end and its jobs go to others; what it did stays."""
    add(server, entry(1), entry(2))
    with worker(server) as jobs, worker(server, "w2") as other:
        jobs.finish(take(jobs), 1, "[1]")
        assert take(jobs).name == name(2)
        server.sql("call pipeline.revoke_box('w1')")
        with pytest.raises(QueueError):
            jobs.take(0)
        assert take(other).name == name(2)
    with pytest.raises(QueueError, match="permission denied for database"):
        worker(server)
    assert server.sql("select how from pipeline.attempts order by id")[0] == ("good",)
    server.sql("select pipeline.add_box('w1', 'ada', '{worker}')")
    with worker(server) as jobs:
        assert jobs.take(0) is None


@pytest.mark.parametrize("bad", ["postgres", "pipeline", "pg_x", "a b", "", "A", "x" * 33])
def test_a_box_has_a_name_of_its_own(bad: str, server: Server) -> None:
    with pytest.raises(psycopg.Error, match="is no name of a box"):
        server.sql("select pipeline.add_box(%s, 'ada', '{worker}')", bad)
