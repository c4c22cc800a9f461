"""What one box did to keep others from working in a real PostgreSQL; each of these worked."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import psycopg
import pytest

from kimpipeline.errors import LostError, QueueError
from kimpipeline.files import scratch
from kimpipeline.queue.updates import Updates
from tests.pipeline.queue.boxes import add, entry, name, states, take, worker
from tests.pipeline.queue.server import SCHEMA, Server

LOSE_JOBS = "update pipeline.attempts set lease = '-infinity' where ended is null"
LOSE_UPDATES = "update pipeline.updates set lease = '-infinity' where state = 'taken'"
SUBMIT = "select pipeline.submit('x', 9, 'approved')"
CONNECTIONS = (
    "select usename::text, count(*)::int from pg_stat_activity"
    " where usename <> 'postgres' group by 1 order by 1"
)


def hang_up(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """End the connection of a client that waits for an answer."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def connections(server: Server, expected: dict[str, int]) -> None:
    """Wait until each box has so many: one that is told to end takes a moment."""
    end = time.monotonic() + 5
    while (found := dict(server.sql(CONNECTIONS))) != expected:
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_one_box_alone_fails_no_job_by_losing_it(server: Server) -> None:
    """It gets the job three times; then another has it, and its result counts."""
    add(server, entry(1))
    with worker(server) as hostile, worker(server, "w2") as honest:
        honest.give_back(take(honest))
        for _ in range(3):
            hostile._heard = True
            assert take(hostile).name == name(1)
            server.sql(LOSE_JOBS)
        hostile._heard = True
        assert hostile.take(0) is None
        assert states(server) == {name(1): "ready"}
        honest._heard = True
        honest.finish(take(honest), 1, "[1]")
    assert states(server) == {name(1): "done"}


def test_a_director_that_fills_the_queue_leaves_room_to_finish_jobs(server: Server) -> None:
    """What is left is given as bytes, of which a transaction that adds jobs may need 1,000,000."""
    add(server, entry(1), entry(2))
    with worker(server) as jobs:
        server.sql("insert into pipeline.room select pipeline.table_bytes() + 900000, 1000000")
        with pytest.raises(QueueError, match=r"no room.*gateway[.]queue is used up"):
            add(server, entry(3))
        lease = take(jobs)
        server.sql("update pipeline.room set bytes = pipeline.table_bytes() + 400000")
        jobs.finish(lease, 1, "[1]")
        with pytest.raises(QueueError, match="no room"):
            jobs.take(0)
    assert states(server) == {name(1): "done", name(2): "ready"}
    server.sql("truncate pipeline.room")
    assert add(server, entry(3)) == 1


def test_three_boxes_that_lose_a_job_fail_it(server: Server) -> None:
    add(server, entry(1))
    with ExitStack() as stack:
        boxes = [stack.enter_context(worker(server, each)) for each in ("w1", "w2", "root")]
        for each in boxes:
            assert take(each).name == name(1)
            server.sql(LOSE_JOBS)
        boxes[0]._heard = True
        assert boxes[0].take(0) is None
    assert states(server) == {name(1): "failed"}


def test_a_box_that_has_no_other_beside_it_any_more_tries_a_job_once_more(server: Server) -> None:
    """Then it has failed: nobody waits for a box that may never come."""
    add(server, entry(1))
    with worker(server) as jobs, worker(server, "w2") as other:
        other.give_back(take(other))
        for _ in range(3):
            jobs._heard = True
            take(jobs)
            server.sql(LOSE_JOBS)
        jobs._heard = True
        assert jobs.take(0) is None
        server.sql("update pipeline.boxes set worked = now() - interval '2 h' where name = 'w2'")
        jobs._heard = True
        assert take(jobs).name == name(1)
        server.sql(LOSE_JOBS)
        jobs._heard = True
        assert jobs.take(0) is None
    assert states(server) == {name(1): "failed"}


def test_one_director_alone_fails_no_update_by_losing_it(server: Server) -> None:
    with Updates(server.settings("d1")) as hostile, Updates(server.settings("d2")) as honest:
        assert honest.take(0) is None
        server.sql(SUBMIT)
        for _ in range(3):
            assert hostile.take(0)
            server.sql(LOSE_UPDATES)
        assert hostile.take(0) is None
        taken = honest.take(0)
        assert taken
        assert honest.add(taken, [entry(1)]) == 1


def test_a_director_keeps_no_update_by_renewing_its_lease(server: Server) -> None:
    """After an hour it is another's."""
    with Updates(server.settings("d1")) as hostile, Updates(server.settings("d2")) as honest:
        server.sql(SUBMIT)
        taken = hostile.take(0)
        assert taken
        hostile.touch(taken)
        server.sql("update pipeline.updates set taken = now() - interval '61 min'")
        with pytest.raises(LostError):
            hostile.touch(taken)
        server.sql(LOSE_UPDATES)
        mine = honest.take(0)
        assert mine
        for call in (hostile.touch, lambda each: hostile.finish(each, "")):
            with pytest.raises(LostError):
                call(mine)
        assert honest.add(mine, [entry(1)]) == 1


def test_a_director_that_gives_back_keeps_the_update_from_nobody_else(server: Server) -> None:
    with Updates(server.settings("d1")) as hostile, Updates(server.settings("d2")) as honest:
        server.sql(SUBMIT)
        taken = hostile.take(0)
        assert taken
        hostile.give_back(taken, 3600)
        assert hostile.take(0) is None
        assert honest.take(0)


def test_one_who_listens_and_does_not_read_fills_no_disk(server: Server) -> None:
    """All that is notified is kept for it; the guard ends it, and an honest listener goes on."""
    used = "select pg_notification_queue_usage()"
    with server.connect("w1") as deaf, server.connect("w2") as flood, worker(server) as honest:
        deaf.execute("listen x")
        end = time.monotonic() + 60
        while server.sql(used)[0][0] <= 0.001:
            assert time.monotonic() < end, "the queue does not fill: this is no attack"
            flood.execute(b";".join(b"notify x, '%d%s'" % (n, b"a" * 7900) for n in range(500)))
        server.sql("select pipeline.guard()")
        with pytest.raises(psycopg.OperationalError):
            deaf.execute("select pipeline.version()")
        end = time.monotonic() + 10
        while server.sql(used)[0][0] > 0.0001:
            assert time.monotonic() < end
            flood.execute("notify x")  # a session that notifies looks after the oldest
            time.sleep(0.1)
        assert honest.take(0) is None
        threading.Timer(0.3, add, (server, entry(1))).start()
        assert honest.take(9)


def test_a_cursor_outlives_no_limit(server: Server) -> None:
    """With its file, which lies on the disk for as long as the session lasts."""
    files = "select coalesce(sum(size), 0)::int from pg_ls_tmpdir()"
    with server.connect("w1") as hostile, worker(server, "w2") as honest:
        hostile.execute("set work_mem = '64kB'")
        made = (
            "declare c cursor with hold for select repeat('x', 99) from generate_series(1, 99999)"
        )
        hostile.execute(made.encode())
        assert server.sql(files)[0][0] > 5_000_000
        assert server.sql("select pipeline.guard()") == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            hostile.execute("fetch c")
        assert server.sql(files) == [(0,)]
        assert honest.take(0) is None


def test_a_statement_ends_with_its_client(server: Server) -> None:
    """As the gateway's settings have it: else a box could leave one after the other behind."""
    config = (SCHEMA.parent / "postgresql.conf").read_text().splitlines()
    (line,) = [each for each in config if each.startswith("client_connection_check_interval")]
    assert server.sql("show client_connection_check_interval") == [("0",)]
    setting, value = line.split(" = ")
    server.sql(f"alter system set {setting} = '{value}'")
    server.sql("select pg_reload_conf()")
    hostile = server.connect("w1")

    def burn() -> None:
        with suppress(psycopg.Error):
            hostile.execute("select count(*) from pg_proc a, pg_proc b, pg_proc c, pg_proc d")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(burn)
        time.sleep(1)
        connections(server, {"w1": 1})
        hang_up(hostile)
        connections(server, {})


def test_one_box_and_one_owner_leave_connections_to_others() -> None:
    """When they are few, each owner has as many as each other, and each box of an owner so."""
    with scratch() as folder, ExitStack() as stack:
        server = Server(folder / "db", "-cfsync=off", "-cmax_connections=30")
        server.start()
        stack.callback(server.stop)
        server.sql("select pipeline.add_box('eve', 'eve', '{worker}')")
        for user, count in (("w1", 12), ("eve", 10), ("w2", 2)):
            for _ in range(count):
                stack.enter_context(server.connect(user))
        assert server.sql("select pipeline.guard()") == [(0,)]
        stack.enter_context(server.connect("w1"))
        assert server.sql("select pipeline.guard()") == [(1,)]
        connections(server, {"eve": 10, "w1": 12, "w2": 2})
        for _ in range(2):
            stack.enter_context(server.connect("w2"))
        assert server.sql("select pipeline.guard()") == [(2,)]
        connections(server, {"eve": 10, "w1": 10, "w2": 4})


def test_a_key_that_two_machines_use_does_no_harm(server: Server) -> None:
    """They are one box: who starts takes the place of the other, whose result is not believed."""
    add(server, entry(1), entry(2))
    with worker(server) as one, worker(server) as two, worker(server, "w2") as other:
        one.enter({})
        first = take(one)
        two.enter({})
        for call in (one.touch, one.give_back, lambda lease: one.finish(lease, 1, "[1]")):
            with pytest.raises(LostError):
                call(first)
        second = take(two)
        assert second.name == first.name
        two.finish(second, 1, "[1]")
        other.finish(take(other), 1, "[2]")
    assert set(states(server).values()) == {"done"}
    assert server.sql("select count(*) from pipeline.alarms") == [(0,)]
