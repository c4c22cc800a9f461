"""The director with a real queue: updates become jobs, each once, whatever happens between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from kimpipeline.director import Director
from kimpipeline.errors import QueueError, TransferError
from kimpipeline.queue.ledger import Ledger
from kimpipeline.queue.messages import (
    ERRORS,
    JOBS,
    RESULTS,
    UPDATES,
    Failure,
    Job,
    Message,
    Result,
    parse,
)
from kimpipeline.queue.queue import Queue
from tests.pipeline import world
from tests.pipeline.station import Station, counts, states

SECOND = "Pair_AlNi__MO_000000000908_000"


@pytest.fixture
def ledger(station: Station) -> Iterator[Ledger]:
    with Ledger(station.director_settings.folders.ledger) as ledger:
        yield ledger


def direct(station: Station, ledger: Ledger, *bodies: bytes) -> None:
    """A director's life: it recovers, and hears all that is on its tubes."""
    for body in bodies:
        station.put(UPDATES, body)
    settings = station.director_settings
    with Queue(settings.queue, UPDATES, RESULTS, ERRORS) as queue:
        director = Director(settings, queue, ledger)
        director.recover()
        while director.serve(0):
            pass


def update(kimid: str, **keys: object) -> bytes:
    return json.dumps({"kimid": kimid, **keys}).encode()


def jobs(station: Station) -> list[Job]:
    return [parse(Job, body) for body in station.bodies(JOBS)]


def test_an_update_becomes_the_jobs_of_its_pairs(station: Station, ledger: Ledger) -> None:
    direct(station, ledger, update(world.TEST, priority=5, status="approved"))
    (job,) = jobs(station)
    assert (job.test, job.model, job.items) == (world.TEST, world.MODEL, (world.DRIVER,))
    assert counts(ledger) == {"queued": 1}


@pytest.mark.parametrize(("lacks", "queued"), [("nothing", 1), ("cmake", 0)])
def test_a_model_that_can_be_built_here_has_jobs(
    lacks: str, queued: int, station: Station, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (station.items / SECOND).mkdir()
    (station.items / SECOND / "kimspec.edn").write_text('{"species" "Al"}')
    (station.items / SECOND / "CMakeLists.txt").touch()
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == lacks else which(name))
    direct(station, ledger, update(SECOND))
    assert [job.model for job in jobs(station)] == [SECOND] * queued


def test_no_pair_is_queued_twice(station: Station, ledger: Ledger) -> None:
    """Not by any of its items, not by the same update again, not once it is done or failed."""
    names = [world.TEST, world.MODEL, world.DRIVER, world.TEST]
    direct(station, ledger, *map(update, names))
    (job,) = jobs(station)
    direct(station, ledger, update(world.TEST))
    assert jobs(station) == []
    station.put(ERRORS, _body(Failure(job=job.job, worker="w", reason="why", log="said")))
    direct(station, ledger, update(world.MODEL))
    assert (jobs(station), states(ledger)[job.job]) == ([], "failed")
    station.put(RESULTS, _body(Result(job=job.job, worker="w", seconds=1)))
    direct(station, ledger, update(world.MODEL))
    assert (jobs(station), states(ledger)[job.job]) == ([], "done")


def test_the_journal_tells_what_is_no_new_job(
    station: Station, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """A pair that is known, and a Model that is not in this machine's KIM API."""
    caplog.set_level("INFO", logger="pipeline-director")
    world.item(station.items, SECOND, species=["Al", "Ni"])
    direct(station, ledger, update(world.TEST), update(world.TEST), update(SECOND))
    lacks = f"the KIM API here lacks {SECOND}"
    assert caplog.messages == [
        f"{world.TEST}: 1 pairs, 1 new jobs; {lacks}",
        f"{world.TEST}: 1 pairs, 0 new jobs; {lacks}",
        f"{SECOND}: 0 pairs, 0 new jobs; {lacks}",
    ]


def test_a_new_version_is_a_new_job(station: Station, ledger: Ledger) -> None:
    direct(station, ledger, update(world.TEST))
    newer = f"{world.MODEL[:-1]}1"
    world.item(station.items, newer, species=["Al"])
    (station.models / newer).mkdir()
    direct(station, ledger, update(newer))
    assert [job.model for job in jobs(station)] == [world.MODEL, newer]


def test_the_lowest_priority_comes_first(station: Station, ledger: Ledger) -> None:
    world.item(station.items, SECOND, species=["Al", "Ni"])
    (station.models / SECOND).mkdir()
    direct(station, ledger, update(world.MODEL, priority=7), update(SECOND, priority=3))
    assert [job.model for job in jobs(station)] == [SECOND, world.MODEL]


def test_what_is_pending_is_not_run(station: Station, ledger: Ledger) -> None:
    direct(station, ledger, update(world.TEST, status="pending"))
    assert (jobs(station), counts(ledger)) == ([], {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[]",
        b"[" * 50_000,
        b'{"kimid": "../../etc/passwd"}',
        b'{"kimid": "$(id)__TE_000000000901_000"}',
        b'{"kimid": "Energy_fcc_Al__TE_000000000901_000\\n"}',
        update("Unknown__TE_000000000999_000"),
        update(world.TEST, priority=-1),
        update(world.TEST, priority=2**32),
        update(world.TEST, priority="1"),
        update(world.TEST, status="rejected"),
        update(world.TEST, more=1),
    ],
)
def test_a_bad_update_is_set_aside_and_the_next_is_served(
    body: bytes, station: Station, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    direct(station, ledger, body, update(world.TEST))
    assert len(jobs(station)) == 1
    assert station.count(UPDATES, "buried") == 1
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "\n" not in record.getMessage()


def test_an_item_that_needs_too_many_others_has_no_job(
    station: Station, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"Part__TD_{number:012d}_000" for number in range(101)]
    for name in names:
        world.item(station.items, name)
    world.make_test(station.items, kimid="Many__TE_000000000920_000", dependencies=names)
    direct(station, ledger, update("Many__TE_000000000920_000"), update(world.TEST))
    assert [job.test for job in jobs(station)] == [world.TEST]
    assert "no job: Tuple should have at most 100 items" in caplog.text


def test_an_update_of_a_broken_item_is_set_aside(station: Station, ledger: Ledger) -> None:
    (station.items / world.DRIVER / "kimspec.edn").write_text("{")
    direct(station, ledger, update(world.TEST))
    assert (jobs(station), station.count(UPDATES, "buried")) == ([], 1)


def test_a_result_of_no_job_changes_nothing(station: Station, ledger: Ledger) -> None:
    job = "TE_000000000901_000-and-MO_000000000903_000-0123456789ab"
    station.put(RESULTS, _body(Result(job=job, worker="w", seconds=1)))
    station.put(ERRORS, b"nonsense")
    direct(station, ledger)
    assert counts(ledger) == {}
    assert station.count(ERRORS, "buried") == 1


def test_results_that_a_test_needs_come_first(station: Station, ledger: Ledger) -> None:
    """They are given to it in the message, as the director is told them."""
    after = "After_fcc_Al__TE_000000000909_000"
    world.make_test(station.items, kimid=after, dependencies=[world.TEST])
    direct(station, ledger, update(after, priority=4))
    (first,) = jobs(station)
    assert first.test == world.TEST
    assert counts(ledger) == {"queued": 1, "waiting": 1}
    station.put(RESULTS, _body(Result(job=first.job, worker="w", seconds=1, results="[1]")))
    direct(station, ledger)
    (second,) = jobs(station)
    assert (second.test, second.given) == (after, {world.TEST: "[1]"})


def test_tests_that_need_each_other_are_refused(
    station: Station, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    other = "Other_fcc_Al__TE_000000000910_000"
    world.make_test(station.items, kimid=other, dependencies=[world.TEST])
    spec = station.items / world.TEST / "kimspec.edn"
    spec.write_text(spec.read_text().replace("{", f'{{"dependencies" ["{other}"] ', 1))
    direct(station, ledger, update(other))
    assert jobs(station) == []
    assert "needs its own results" in caplog.text


class Crash(BaseException):
    """Power is gone."""


@pytest.mark.parametrize("moment", ["before the put", "after the put", "before the delete"])
@pytest.mark.parametrize("meanwhile", ["ready", "reserved", "buried", "done"])
def test_a_crash_queues_no_pair_twice_and_loses_none(
    moment: str, meanwhile: str, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it strikes, and whatever became of the job before the director is back."""
    settings = station.director_settings
    put, delete = Queue.put, Queue.delete

    def crash_put(self: Queue, tube: str, message: Message, priority: int = 0) -> int:
        if moment == "after the put":
            put(self, tube, message, priority)
        raise Crash

    def crash_delete(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(
            Queue,
            "delete" if "delete" in moment else "put",
            crash_delete if "delete" in moment else crash_put,
        )
        # as of a process that is gone, nothing is noted on the way out
        patch.setattr(
            Ledger, "mark_queued", Ledger.mark_queued if "delete" in moment else lambda *_: None
        )
        with Ledger(settings.folders.ledger) as ledger, pytest.raises(Crash):
            direct(station, ledger, update(world.TEST))
    assert put is Queue.put
    assert delete is Queue.delete
    taken = [] if moment == "before the put" else [b"one"]
    with station.client(JOBS) as worker:
        if taken and meanwhile != "ready":
            job = worker.reserve(timeout=5)
            body = job.body
            if meanwhile == "buried":
                worker.bury(job)
            if meanwhile == "done":
                found = parse(Job, body)
                station.put(RESULTS, _body(Result(job=found.job, worker="w", seconds=1)))
                worker.delete(job)
        for _ in range(2):
            with Ledger(settings.folders.ledger) as ledger:
                direct(station, ledger)
                recorded = counts(ledger)
        there = sum(station.count(JOBS, state) for state in ("ready", "reserved", "buried"))
    gone = bool(taken) and meanwhile == "done"
    assert there == (0 if gone else 1)
    assert recorded == {"done" if gone else "queued": 1}


def test_a_queue_that_lost_all_gets_what_was_intended(station: Station) -> None:
    """One without a binlog counts its messages from the start again."""
    settings = station.director_settings
    for number in range(20):
        station.put("other", str(number).encode())
    station.put(UPDATES, update(world.TEST))
    with pytest.MonkeyPatch.context() as patch:

        def broken(*_: object) -> int:
            raise QueueError("gone")

        patch.setattr(Queue, "put", broken)
        with Ledger(settings.folders.ledger) as ledger, pytest.raises(QueueError):
            direct(station, ledger)
    station.kill_queue()
    for file in (station.root / "binlog").iterdir():
        file.unlink()
    station.start_queue()
    with Ledger(settings.folders.ledger) as ledger:
        direct(station, ledger)
    assert len(jobs(station)) == 1


def test_no_queue_is_one_line(station: Station) -> None:
    station.kill_queue()
    with pytest.raises(QueueError, match=r"^the queue: .*refused"):
        Queue(station.settings.queue)


def _body(message: Message) -> bytes:
    return message.model_dump_json().encode()


def test_a_director_elsewhere_fetches_the_items(station: Station, ledger: Ledger) -> None:
    """When asked, as there may be new ones; what it cannot fetch it leaves on the queue."""
    settings = station.settings  # its own items are a worker's, who has none yet
    station.put(UPDATES, update(world.TEST))
    broken = settings.remote.model_copy(update={"items": "/no/such/place/"})
    with Queue(settings.queue, UPDATES) as queue:
        away = settings.model_copy(update={"remote": broken})
        with pytest.raises(TransferError, match="the items could not be fetched"):
            Director(away, queue, ledger).serve(0)
    assert station.count(UPDATES, "ready") == 1
    with Queue(settings.queue, UPDATES) as queue:
        assert Director(settings, queue, ledger).serve(0)
    (job,) = jobs(station)
    assert job.test == world.TEST
