"""A day of honest boxes with a real PostgreSQL, also of many at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kimpipeline.errors import LostError
from kimpipeline.queue.updates import Updates
from tests.bench.shared.cycles import fill
from tests.pipeline.queue.boxes import add, entry, name, states, take, worker
from tests.pipeline.queue.server import Server


def test_a_jobs_day(server: Server) -> None:
    """It is added once, taken, touched, finished; each change says when and by whom."""
    assert (add(server, entry(1)), add(server, entry(1))) == (1, 0)
    with worker(server) as jobs:
        lease = take(jobs)
        assert lease.job() == entry(1).job
        assert jobs.take(0) is None
        jobs.touch(lease)
        jobs.finish(lease, 1.5, "[1]")
    changes = server.sql("select who, state from pipeline.changes order by id")
    assert changes == [("d1", "ready"), ("w1", "running"), ("w1", "done")]
    attempts = server.sql("select box, worker, how, seconds, results from pipeline.attempts")
    assert attempts == [("w1", "0", "good", 1.5, "[1]")]


def test_the_lowest_priority_comes_first_then_the_oldest(server: Server) -> None:
    add(server, entry(1), entry(2), priority=7)
    add(server, entry(3), priority=3)
    with worker(server) as jobs:
        assert [take(jobs).name for _ in range(3)] == [name(3), name(1), name(2)]


def test_the_bench_fills_the_schema_of_today(server: Server) -> None:
    """A third waits, each for the one before it."""
    fill(server, 30)
    assert list(states(server).values()).count("waiting") == 10
    with worker(server) as jobs:
        for _ in range(2):
            jobs.finish(take(jobs), 1, "[1]")
    assert list(states(server).values()).count("waiting") == 9


def test_a_waiting_job_wakes_when_all_that_it_needs_has_ended_well(server: Server) -> None:
    add(server, entry(1), entry(2), entry(3, 1, 2))
    with worker(server) as jobs, worker(server, "w2") as other:
        first, second = take(jobs), take(other)
        assert states(server)[name(3)] == "waiting"
        jobs.finish(first, 1, "[1]")
        assert jobs.take(0) is None
        other.finish(second, 1, "[2]")
        assert dict(take(jobs).fields["given"]) == {
            first.fields["test"]: "[1]",
            second.fields["test"]: "[2]",
        }


def test_what_waits_for_a_failed_job_runs_once_an_operator_retries_that(server: Server) -> None:
    add(server, entry(1), entry(2, 1))
    with worker(server) as jobs:
        jobs.fail(take(jobs), "why\0\ud800", "log")
        assert jobs.take(0) is None
        ((seen,),) = server.sql("select pipeline.overview()")
        assert seen["stuck"] == [{"job": name(2), "needs": name(1), "state": "failed"}]
        assert (seen["workers"], seen["directors"]) == (1, 0)
        assert server.sql("select pipeline.retry(null)") == [(1,)]
        jobs.finish(take(jobs), 1, "[1]")
        assert take(jobs).name == name(2)


def test_an_idle_worker_hears_of_a_job_at_once(server: Server) -> None:
    with worker(server) as jobs:
        assert jobs.take(0) is None
        threading.Timer(0.3, add, (server, entry(1))).start()
        began = time.monotonic()
        assert jobs.take(9)
        assert time.monotonic() - began < 3


def test_a_director_hears_of_an_update_at_once(server: Server) -> None:
    with Updates(server.settings("d1")) as updates:
        call = "select pipeline.submit('x', 1, 'approved')"
        threading.Timer(0.3, server.sql, (call,)).start()
        began = time.monotonic()
        assert updates.take(9)
        assert time.monotonic() - began < 3


def test_a_silent_worker_loses_its_job_by_the_databases_clock(server: Server) -> None:
    """Three times; then it has failed, as no other box works, until an operator retries it."""
    add(server, entry(1))
    with worker(server, ttr=3) as jobs, worker(server, "w2") as other:
        for _ in range(3):
            lease = take(jobs)
            assert other.take(0) is None
            server.sql("update pipeline.boxes set worked = null where name = 'w2'")
            server.sql("update pipeline.attempts set lease = now() - interval '1 s'")
            with pytest.raises(LostError):
                jobs.touch(lease)
            for function, *values in (("finish", 1.0, "[1]"), ("fail", "", ""), ("give_back", 0.0)):
                with pytest.raises(LostError):
                    jobs.call(function, lease.attempt, *values)
            jobs._heard = True
        assert jobs.take(0) is None
        assert states(server) == {name(1): "failed"}
        assert server.sql("select pipeline.retry(%s)", [name(1)]) == [(1,)]
        assert take(other).name == name(1)


def test_a_worker_that_starts_again_has_lost_what_it_had(server: Server) -> None:
    """Without a wait for its lease; it hands in the end of the log."""
    add(server, entry(1), entry(2))
    with worker(server) as jobs:
        assert take(jobs).name == name(1)
    with worker(server, slot="1") as other:
        assert take(other).name == name(2)
    with worker(server) as jobs:
        jobs.enter({name(1): "it began", "nonsense": "x"})
        assert take(jobs).name == name(1)
    rows = server.sql("select worker, how, log from pipeline.attempts order by id")
    assert rows == [("0", "lost", "it began"), ("1", None, None), ("0", None, None)]


def test_a_database_that_went_down_takes_no_life_of_a_job(server: Server) -> None:
    add(server, entry(1))
    for _ in range(3):
        with worker(server) as jobs:
            jobs.enter({})
            assert take(jobs).name == name(1)
        server.kill()
        server.start()
    with worker(server) as jobs:
        jobs.enter({})
        assert take(jobs).name == name(1)
    assert server.sql("select lost from pipeline.jobs") == [([],)]


def test_what_is_given_back_rests_for_its_delay(server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs:
        jobs.give_back(take(jobs), 3600)
        jobs._heard = True
        assert jobs.take(0) is None
        server.sql("update pipeline.jobs set after = now()")
        jobs._heard = True
        jobs.give_back(take(jobs))
        assert take(jobs).name == name(1)
        assert server.sql("select lost from pipeline.jobs") == [([],)]


@pytest.mark.parametrize(("second", "alarms"), [("[1]", 0), ("[2]", 1)])
def test_a_second_result_stands_beside_the_first(second: str, alarms: int, server: Server) -> None:
    add(server, entry(1))
    with worker(server) as jobs:
        jobs.finish(take(jobs), 1, "[1]")
        server.sql("select pipeline.retry(%s)", [name(1)])
        jobs._heard = True
        jobs.finish(take(jobs), 1, second)
        server.sql("select pipeline.retry(%s)", [name(1)])
        jobs._heard = True
        jobs.fail(take(jobs), "bad luck", "")
    found = server.sql("select results from pipeline.attempts where how = 'good' order by id")
    assert found == [("[1]",), (second,)]
    assert server.sql("select count(*) from pipeline.alarms") == [(alarms,)]
    assert states(server) == {name(1): "done"}  # with the first result


def test_a_cancelled_job_is_its_workers_no_more(server: Server) -> None:
    add(server, entry(1), entry(2))
    with worker(server) as jobs:
        lease = take(jobs)
        assert server.sql("select pipeline.cancel(%s)", [name(1), name(2)]) == [(2,)]
        with pytest.raises(LostError):
            jobs.finish(lease, 1, "[1]")
        assert jobs.take(0) is None
        assert set(states(server).values()) == {"cancelled"}


def test_two_directors_and_ten_thousand_updates(server: Server) -> None:
    """Each update is served once, each job is made once, though both directors make the same."""
    call = "select pipeline.submit('x', 1, 'approved') from generate_series(1, 10000)"
    server.sql(call)

    def direct(user: str) -> int:
        done = 0
        with Updates(server.settings(user)) as updates:
            while done < 200 and (taken := updates.take(0)):
                updates.add(taken, [entry(1), entry(2 + done % 3, 1)])
                updates.finish(taken, "")
                done += 1
        return done

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(direct, ("d1", "d2"))) == [200, 200]
    rows = server.sql("select state, count(*)::int from pipeline.updates group by 1 order by 1")
    assert rows == [("done", 400), ("ready", 9600)]
    assert sorted(states(server).values()) == ["ready", "waiting", "waiting", "waiting"]


def test_workers_at_once_take_each_job_once(server: Server) -> None:
    """While a director adds jobs that wait for theirs: none of these misses its end."""
    add(server, *(entry(number) for number in range(1, 81)))
    done: list[str] = []

    def run(slot: int) -> None:
        with worker(server, "w1" if slot % 2 else "w2", str(slot)) as jobs:
            deadline = time.monotonic() + 120
            while len(done) < 160 and time.monotonic() < deadline:
                if lease := jobs.take(0.2):
                    jobs.finish(lease, 1, "[1]")
                    done.append(lease.name)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(run, slot) for slot in range(4)]
        for number in range(1, 81):
            add(server, entry(100 + number, number, 81 - number))
        for each in running:
            each.result()
    assert len(done) == len(set(done)) == 160
    assert set(states(server).values()) == {"done"}
