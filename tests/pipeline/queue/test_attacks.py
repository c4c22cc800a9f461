"""What a stranger did to the queue in a real PostgreSQL; each of these is an attack that worked."""

from __future__ import annotations

import getpass
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest
from psycopg.types.json import Jsonb

from kimpipeline.errors import LostError, MessageError, QueueError
from kimpipeline.files import scratch
from kimpipeline.kim.kimid import job_id
from kimpipeline.queue.database import SCHEMA as VERSION
from kimpipeline.queue.database import Database
from kimpipeline.queue.jobs import MOST, Jobs, Lease
from kimpipeline.queue.updates import Taken, Updates
from tests.pipeline.queue.boxes import add, entry, name, states, take, worker
from tests.pipeline.queue.server import PORT, SCHEMA, Server

REVOKE = "call pipeline.revoke_box('w1')"


@contextmanager
def director(server: Server, user: str = "d1") -> Iterator[tuple[Updates, Taken]]:
    """With an update of its own."""
    server.sql("select pipeline.submit('x', 9, 'approved')")
    with Updates(server.settings(user)) as updates:
        taken = updates.take(0)
        assert taken
        yield updates, taken


@contextmanager
def guarded(server: Server) -> Iterator[None]:
    """With a guard that looks as often as a gateway's."""
    stop = threading.Event()

    def watch() -> None:
        with server.connect() as connection:
            while not stop.wait(1):
                connection.execute("select pipeline.guard()")

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            stop.set()
            watching.result()


def connections(server: Server, role: int) -> int:
    """How many there are, also of a role that is gone."""
    rows = "select count(*)::int from pg_stat_activity where usesysid = %s"
    return int(server.sql(rows, role)[0][0])


def oid(server: Server, user: str) -> int:
    return int(server.sql("select %s::regrole::oid::int", user)[0][0])


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_a_box_comes_into_no_other_database(database: str, server: Server) -> None:
    """There nothing keeps it from taking all locks of the server."""
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(host=str(server.folder), port=PORT, user="w1", dbname=database)


def test_the_gateways_pg_hba_admits_boxes_to_the_one_database_alone() -> None:
    with scratch() as folder:
        folder.chmod(0o755)
        (folder / "ident").write_text(f"boxes {getpass.getuser()} w1\n")
        (folder / "hba").write_bytes((SCHEMA.parent / "pg_hba.conf").read_bytes())
        words = (f"-chba_file={folder}/hba", f"-cident_file={folder}/ident")
        server = Server(folder / "db", "-cfsync=off", *words)
        server.start()
        with worker(server) as jobs:
            assert jobs.take(0) is None
        for database in ("postgres", "template1", "template0"):
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                psycopg.connect(host=str(server.folder), port=PORT, user="w1", dbname=database)
        server.stop()


@pytest.mark.parametrize(
    "before",
    [
        "alter default privileges grant select on tables to public",
        "begin; alter role w1 password 'x'",
        "begin; select * from pipeline.take('x', 3600)",
        "listen x",
    ],
)
def test_nothing_that_a_box_does_keeps_it_from_being_revoked(before: str, server: Server) -> None:
    add(server, entry(1))
    with server.connect("w1") as hostile:
        hostile.execute(before.encode())
        began = time.monotonic()
        server.sql(REVOKE)
        assert time.monotonic() - began < 5
        with pytest.raises(psycopg.Error):
            hostile.execute("commit")
    with pytest.raises(QueueError, match="permission denied for database"):
        worker(server)
    with worker(server, "w2") as honest:
        assert take(honest).name == name(1)
    server.sql("select pipeline.add_box('w1', 'ada', '{worker}')")
    with worker(server) as jobs:
        assert jobs.take(0) is None


def test_a_box_that_connects_all_the_time_is_out_too(server: Server) -> None:
    stop, hostile = threading.Event(), oid(server, "w1")

    def come() -> None:
        with ExitStack() as stack:
            while not stop.is_set():
                with suppress(psycopg.Error):
                    stack.enter_context(server.connect("w1"))

    with ThreadPoolExecutor(4) as pool:
        coming = [pool.submit(come) for _ in range(4)]
        time.sleep(0.5)
        assert connections(server, hostile) > 0
        server.sql(REVOKE)
        assert connections(server, hostile) == 0
        time.sleep(0.5)
        assert connections(server, hostile) == 0
        stop.set()
        for each in coming:
            each.result()


def test_boxes_are_those_that_are_named(server: Server) -> None:
    """One that is gone is out, though it holds its own role; a new one may work."""
    role = oid(server, "w1")
    with server.connect("w1") as hostile:
        hostile.execute("set idle_in_transaction_session_timeout = 0")
        hostile.execute("begin")
        hostile.execute("alter role w1 password 'x'")
        server.sql("call pipeline.keep_boxes('{w2,d1,d2,root,eve.w-3}')")
        with pytest.raises(psycopg.Error):
            hostile.execute("commit")
    assert connections(server, role) == 0
    kept = server.sql("select name from pipeline.boxes where revoked is null order by 1")
    assert kept == [("d1",), ("d2",), ("eve.w-3",), ("root",), ("w2",)]
    assert server.sql("select owner from pipeline.boxes where name = 'eve.w-3'") == [("eve",)]
    with worker(server, "eve.w-3") as jobs:
        assert jobs.take(0) is None


def test_an_open_transaction_holds_up_nobody_else(server: Server) -> None:
    """A worker that finishes without an end; a director that adds jobs so."""
    add(server, entry(1), entry(2), entry(3))
    with (
        worker(server, "w2") as honest,
        server.connect("w1") as hostile,
        server.connect("d1") as other,
        director(server, "d1") as (_, taken),
        director(server, "d2") as (updates, mine),
    ):
        lease = take(honest)
        hostile.execute("begin")
        ((attempt,),) = hostile.execute("select attempt from pipeline.take('x', 60)").fetchall()
        hostile.execute("select pipeline.finish(%s, 1, 'x')", [attempt])
        other.execute("begin")
        other.execute("select pipeline.add_jobs(%s, '[]')", [taken.id])
        began = time.monotonic()
        honest.finish(lease, 1, "[1]")
        assert updates.add(mine, [entry(4, 1)]) == 1
        assert time.monotonic() - began < 2


def test_who_holds_up_others_is_put_out_and_they_go_on(server: Server) -> None:
    """An honest worker needs the same row; it asks again and does not end."""
    add(server, entry(1), entry(2), entry(3, 1, 2))
    with server.connect("w1") as hostile, worker(server, "w2") as honest, guarded(server):
        hostile.execute("set idle_in_transaction_session_timeout = 0")
        ((attempt,),) = hostile.execute("select attempt from pipeline.take('x', 60)").fetchall()
        lease = take(honest)
        hostile.execute("begin")
        hostile.execute("select pipeline.finish(%s, 1, 'x')", [attempt])
        began = time.monotonic()
        honest.finish(lease, 1, "[2]")
        assert time.monotonic() - began < 10
        with pytest.raises(psycopg.Error):
            hostile.execute("commit")


def test_one_that_is_busy_in_its_transaction_is_put_out_too(server: Server) -> None:
    add(server, entry(1), entry(2), entry(3, 1, 2))
    with server.connect("w1") as hostile, worker(server, "w2") as honest:
        hostile.execute("set statement_timeout = 0")
        ((attempt,),) = hostile.execute("select attempt from pipeline.take('x', 60)").fetchall()
        lease = take(honest)

        def hold() -> None:
            with suppress(psycopg.Error):
                hostile.execute("select count(*) from pg_proc a, pg_proc b, pg_proc c, pg_proc d")

        hostile.execute("begin")
        hostile.execute("select pipeline.finish(%s, 1, 'x')", [attempt])
        with ThreadPoolExecutor(1) as pool, guarded(server):
            pool.submit(hold)
            began = time.monotonic()
            honest.finish(lease, 1, "[2]")
            assert time.monotonic() - began < 15


def test_the_gateways_guard_looks_until_the_server_ends(server: Server) -> None:
    """As its program /usr/lib/gateway/database has psql do it."""
    program = (SCHEMA.parent / "database").read_text()
    (line,) = [each for each in program.splitlines() if each.startswith("guard)")]
    said = line.split("'")[1]
    words = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "pipeline", "-U", "postgres"]
    with server.connect("w1") as hostile:
        hostile.execute("set idle_in_transaction_session_timeout = 0")
        with subprocess.Popen(
            [*words, "-h", str(server.folder), "-p", str(PORT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as guard:
            assert guard.stdin
            guard.stdin.write(f"{said}\n")
            guard.stdin.close()
            hostile.execute("begin")
            deadline = time.monotonic() + 20
            while connections(server, oid(server, "w1")) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert not connections(server, oid(server, "w1"))
            assert guard.poll() is None
            server.stop()
            assert guard.wait(20) != 0
        with pytest.raises(psycopg.Error):
            hostile.execute("commit")


@pytest.mark.parametrize("code", ["40P01", "55P03", "57014"])
def test_a_call_that_was_held_up_is_made_again(code: str, server: Server) -> None:
    """Three times at most."""
    server.sql("create sequence public.asked")
    server.sql(
        "grant all on sequence public.asked to public; grant usage on schema public to public"
    )
    server.sql(
        "create or replace function pipeline.version() returns integer language plpgsql"
        " security definer as $$begin if nextval('public.asked') % 3 > 0 then"
        f" raise exception 'held up' using errcode = '{code}'; end if; return {VERSION}; end$$"
    )
    with Database(server.settings("w1"), "x") as database:
        assert database.rows("version") == [(VERSION,)]
        server.sql("alter sequence public.asked increment by 3 restart with 1")
        with pytest.raises(QueueError, match="held up"):
            database.rows("version")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_old_view_of_the_tables_changes_nothing(level: str, server: Server) -> None:
    """Else a job that is added meanwhile would wait for ever."""
    add(server, entry(1))
    with server.connect("w1") as hostile, worker(server, "w2") as honest:
        ((attempt,),) = hostile.execute("select attempt from pipeline.take('x', 60)").fetchall()
        hostile.execute(f"begin isolation level {level}".encode())
        hostile.execute("select pipeline.version()")
        add(server, entry(2, 1))
        with pytest.raises(psycopg.Error, match="read committed"):
            hostile.execute("select pipeline.finish(%s, 1, '[1]')", [attempt])
        hostile.rollback()
        hostile.execute("select pipeline.finish(%s, 1, '[1]')", [attempt])
        assert take(honest).name == name(2)
    with server.connect("d2") as hostile, director(server, "d2") as (_, taken):
        hostile.execute(f"begin isolation level {level}".encode())
        with pytest.raises(psycopg.Error, match="read committed"):
            hostile.execute("select pipeline.add_jobs(%s, %s)", [taken.id, _list(7)])


def _list(*numbers: int, **words: object) -> Jsonb:
    """As a director sends these jobs; ``words`` are other fields of each."""
    made = [{**entry(each).job.model_dump(mode="json", exclude={"given"})} for each in numbers]
    return Jsonb([{**each, "needs": [], **words} for each in made])


def test_a_cancelled_job_runs_no_more_though_it_was_just_taken(server: Server) -> None:
    add(server, entry(1))
    with server.connect("w1") as hostile, worker(server, "w2") as honest:
        hostile.execute("begin")
        ((attempt,),) = hostile.execute("select attempt from pipeline.take('x', 60)").fetchall()
        with ThreadPoolExecutor(1) as pool:
            cancelled = pool.submit(server.sql, "select pipeline.cancel(%s)", [name(1)])
            time.sleep(0.5)
            hostile.execute("commit")
            assert cancelled.result() == [(1,)]
        for call in ("touch(%s, 60)", "give_back(%s, 0)", "finish(%s, 1, '')"):
            with pytest.raises(psycopg.Error) as caught:
                hostile.execute(f"select pipeline.{call}".encode(), [attempt])
            assert caught.value.sqlstate == "PL001"
        assert states(server) == {name(1): "cancelled"}
        server.sql("select pipeline.retry(%s)", [name(1)])
        assert take(honest).name == name(1)
    assert server.sql("select count(*) from pipeline.attempts where ended is null") == [(1,)]


def test_two_attempts_that_finish_at_once_wake_a_job_once(server: Server) -> None:
    """The second waits for the first, and is compared with it."""
    add(server, entry(1), entry(2), entry(3, 1, 2))
    with server.connect("w1") as hostile, worker(server, "w2") as honest:
        ((attempt,),) = hostile.execute("select attempt from pipeline.take('x', 60)").fetchall()
        # a second attempt of the same job: no call of a box makes one any more
        lease = take(honest)
        server.sql("update pipeline.attempts set job = %s where id = %s", name(1), lease.attempt)
        hostile.execute("begin")
        hostile.execute("select pipeline.finish(%s, 1, '[forged]')", [attempt])
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(honest.finish, lease, 1, "[1]")
            time.sleep(0.5)
            hostile.execute("commit")
            second.result()
    assert states(server)[name(3)] == "waiting"
    assert server.sql("select count(*) from pipeline.alarms") == [(1,)]


def test_a_director_makes_no_job_that_waits_for_ever_or_runs_too_early(server: Server) -> None:
    add(server, entry(1))
    first, second, third = (_list(each).obj[0] for each in (11, 12, 13))
    bad = {
        "twice": [first, first],
        "it needs itself": [{**first, "needs": [name(11)]}],
        "a ring": [{**first, "needs": [name(12)]}, {**second, "needs": [name(11)]}],
        "of a later one": [{**first, "needs": [name(13)]}, third],
        "unknown": [{**first, "needs": [name(99)]}],
        "null": [{**first, "needs": [None]}],
        "another's id": [{**first, "model": "Pair_Cu__MO_000000000904_000"}],
        "no KIM id": [{**first, "test": "bogus"}],
        "other items": [{**first, "items": ["x"]}],
        "no id": [{**first, "job": None}],
        "a line": [{**first, "job": "a\n\x1b[2J"}],
        "too many": [{**first, "needs": [name(1)] * 101}],
    }
    with director(server) as (updates, taken):
        for what, jobs in bad.items():
            refused = False
            try:
                updates.call("add_jobs", taken.id, Jsonb(jobs))
            except MessageError:
                refused = True
            assert refused, what
        assert updates.add(taken, [entry(12, 1), entry(11, 12, 1)]) == 2
        item = "Driver__MD_000000000001_000"
        items = [item, "Other__MD_000000000002_000"]
        test, model = first["test"], first["model"]
        made = {**first, "items": items[::-1], "job": job_id(test, model, items)}
        updates.call("add_jobs", taken.id, Jsonb([made]))
    with pytest.raises(psycopg.errors.CheckViolation):
        server.sql("update pipeline.jobs set missing = -1")


def test_a_director_has_limits(server: Server) -> None:
    with director(server) as (updates, taken):
        long = _list(1, items=["x" * 9_000_000])
        with pytest.raises(MessageError, match="more than 8 MB of jobs"):
            updates.call("add_jobs", taken.id, long)
        server.sql("update pipeline.updates set bytes = 199999999")
        with pytest.raises(MessageError, match="200 MB of one update"):
            updates.add(taken, [entry(1)])
        server.sql("select pipeline.submit('x', 9, 'approved') from generate_series(1, 20)")
        for _ in range(15):
            assert updates.take(0)
        with pytest.raises(MessageError, match="16 updates already"):
            updates.take(0)
    with Updates(server.settings("d2")) as other:
        assert other.take(0)


def test_a_large_update_is_added_some_at_a_time(server: Server) -> None:
    entries = [entry(1), *(entry(number, 1) for number in range(2, 5002))]
    with director(server) as (updates, taken):
        assert updates.add(taken, entries) == 5001
        assert updates.add(taken, entries) == 0
    with worker(server) as jobs:
        assert take(jobs).name == name(1)


@pytest.mark.parametrize(("size", "needed"), [(MOST, 17), (MOST + 1, 1)])
def test_a_job_that_cannot_be_given_fails_and_the_next_runs(
    size: int, needed: int, server: Server
) -> None:
    """Of results that are too long in all, or of one that is not kept."""
    add(server, *(entry(number) for number in range(1, needed + 1)))
    with worker(server) as jobs:
        for _ in range(needed):
            jobs.finish(take(jobs), 1, "x" * size)
        add(server, entry(50, *range(1, needed + 1)), entry(51))
        assert take(jobs).name == name(51)
    assert states(server)[name(50)] == "failed"
    ((seen,),) = server.sql("select pipeline.attempts_of(%s)", name(50))
    assert "too long to be given" in seen[0]["reason"]


def test_a_job_that_many_need_can_be_finished(server: Server) -> None:
    count = 8000
    with director(server) as (updates, taken):
        updates.add(taken, [entry(1), *(entry(number, 1) for number in range(2, count + 2))])
    with worker(server) as jobs:
        lease = take(jobs)
        began = time.monotonic()
        jobs.finish(lease, 1, "[1]")
        assert time.monotonic() - began < 8  # all with all takes much longer
    assert list(states(server).values()).count("ready") == count


def test_a_box_has_no_more_jobs_by_many_connections(server: Server) -> None:
    server.sql("update pipeline.boxes set slots = 2")
    add(server, *(entry(number) for number in range(1, 9)))
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        hostile = [stack.enter_context(server.connect("w1")) for _ in range(4)]

        def grab(connection: psycopg.Connection[tuple[object, ...]]) -> None:
            with suppress(psycopg.Error):
                connection.execute("begin")
                connection.execute("select pipeline.take('x', 60)")
                connection.execute("select pipeline.take('x', 60)")
                time.sleep(0.3)
            connection.execute("commit")

        list(pool.map(grab, hostile))
    assert server.sql("select count(*) from pipeline.attempts where ended is null") == [(2,)]


def test_a_box_that_gives_back_keeps_the_job_from_nobody_else(server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs, worker(server, "w2") as other:
        jobs.give_back(take(jobs), 3600)
        jobs._heard = True
        assert jobs.take(0) is None
        assert take(other).name == name(1)


def test_an_attempt_has_an_end(server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs:
        lease = take(jobs)
        server.sql("update pipeline.attempts set taken = now() - interval '31 days'")
        with pytest.raises(LostError):
            jobs.touch(lease)


def test_results_that_are_not_kept_are_compared_too(server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs:
        for letter, alarms in (("a", 0), ("a", 0), ("b", 1)):
            jobs.finish(take(jobs), 1, letter * (MOST + 1))
            server.sql("select pipeline.retry(%s)", [name(1)])
            jobs._heard = True
            assert server.sql("select count(*) from pipeline.alarms") == [(alarms,)]


@pytest.mark.parametrize("seconds", ["'NaN'", "'infinity'", "-1"])
def test_seconds_are_a_number(seconds: str, server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs:
        lease = take(jobs)
        with pytest.raises(psycopg.errors.CheckViolation):
            server.sql(f"select pipeline.finish({lease.attempt}, {seconds}, '')", user="w1")


def test_a_done_job_that_is_cancelled_stays_done(server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs:
        jobs.finish(take(jobs), 1, "[1]")
        server.sql("select pipeline.retry(%s)", [name(1)])
        server.sql("select pipeline.cancel(%s)", [name(1)])
    assert states(server) == {name(1): "done"}


@pytest.mark.parametrize("taken", ["ops", "w2", "none", "public", None])
def test_a_new_box_takes_no_other_role(taken: str | None, server: Server) -> None:
    server.sql("create role ops superuser")
    with pytest.raises(psycopg.Error) as caught:
        server.sql("select pipeline.add_box(%s, 'eve', '{director}')", taken)
    assert caught.value.sqlstate == "PL002"
    found = server.sql("select pg_has_role('w2', 'pipeline_director', 'usage')")
    assert found == [(False,)]


def test_a_box_fills_no_log(server: Server) -> None:
    """Neither with what it does wrong nor with plans."""
    before = (server.folder / "log").stat().st_size
    with server.connect("w1") as hostile:
        for each in ("plan", "parse", "rewritten"):
            hostile.execute(f"set debug_print_{each} = on".encode())
        hostile.execute("select * from pg_class")
        with suppress(psycopg.Error):
            hostile.execute(b"select x /*" + b"a" * 1_000_000 + b"*/")
    assert (server.folder / "log").stat().st_size - before < 10_000


def test_a_role_keeps_no_long_settings(server: Server) -> None:
    with server.connect("w1") as hostile:
        hostile.execute(f"alter role w1 set search_path = {','.join(['a' * 60] * 10_000)}".encode())
    server.sql("select pipeline.guard()")
    length = "select max(octet_length(setconfig::text)) from pg_db_role_setting"
    assert server.sql(length)[0][0] < 1000
    with server.connect("w1") as again:
        assert again.execute("show statement_timeout").fetchall() == [("30s",)]


def test_a_flood_of_news_is_not_kept_and_makes_few_questions(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(server) as jobs, server.connect("w2") as hostile:
        jobs.take(0)
        asked: list[float] = []
        ask = jobs._ask

        def counted() -> Lease | None:
            asked.append(time.monotonic())
            return ask()

        monkeypatch.setattr(jobs, "_ask", counted)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            hostile.execute(
                f"notify pipeline_jobs, '{'x' * 7000}{end - time.monotonic()}'".encode()
            )
            jobs.call("version")
            jobs.take(0.5)
        assert not jobs._connection._notifies_backlog
        assert 0 < len(asked) < 12


def test_what_a_box_did_can_be_disowned(server: Server) -> None:
    """Its forged result, what was given that, and what it failed run again; the rest stays."""
    add(server, entry(1), entry(2, 1), entry(3, 2), entry(4), entry(5, 4), entry(6), entry(7, 1))
    with worker(server) as hostile, worker(server, "w2") as honest:

        def taken(jobs: Jobs, number: int) -> Lease:
            server.sql("update pipeline.jobs set priority = 1 where id = %s", name(number))
            lease = take(jobs)
            assert lease.name == name(number)
            return lease

        hostile.finish(taken(hostile, 1), 1, "[forged]")
        honest.finish(taken(honest, 2), 1, "[of forged]")
        honest.finish(taken(honest, 4), 1, "[4]")
        hostile.fail(taken(hostile, 6), "", "")
        running = taken(honest, 3)
        assert server.sql("select pipeline.disown('w1')") == [(5,)]
        assert states(server) == {
            **dict.fromkeys([name(1), name(5), name(6)], "ready"),
            **dict.fromkeys([name(2), name(3), name(7)], "waiting"),
            name(4): "done",
        }
        with pytest.raises(LostError):
            honest.touch(running)
        for _ in range(6):
            lease = take(honest)
            given = dict(lease.fields["given"]).values()
            assert set(given) <= {"[true]", "[4]"}
            honest.finish(lease, 1, "[true]")
    assert set(states(server).values()) == {"done"}
