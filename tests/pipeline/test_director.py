"""The director with a real queue: updates become jobs, each once, whatever happens between."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from kimpipeline.director import Director
from kimpipeline.errors import QueueError, TransferError
from kimpipeline.queue.database import Database
from kimpipeline.queue.jobs import Jobs
from kimpipeline.queue.updates import Updates
from tests.pipeline import world
from tests.pipeline.station import Station

SECOND = "Pair_AlNi__MO_000000000908_000"


def direct(station: Station, *updates: tuple[Any, ...]) -> None:
    """Submit these, and have a director serve all that waits."""
    for each in updates:
        station.submit(*each)
    settings = station.director_settings
    with Updates(settings.queue) as queue:
        director = Director(settings, queue)
        while director.serve(0):
            pass


def rows(station: Station) -> list[tuple[Any, ...]]:
    """The jobs in the order in which they will run: test, model, items, priority."""
    return station.server.sql(
        "select test, model, items, priority from pipeline.jobs order by priority, number"
    )


def notes(station: Station, state: str) -> list[str]:
    """What came of the updates in this state."""
    call = "select note from pipeline.updates where state = %s order by id"
    return [note for (note,) in station.server.sql(call, state)]


def test_an_update_becomes_the_jobs_of_its_pairs(station: Station) -> None:
    direct(station, (world.TEST, 5))
    assert rows(station) == [(world.TEST, world.MODEL, [world.DRIVER], 5)]
    assert station.counts() == {"ready": 1}


@pytest.mark.parametrize(("lacks", "queued"), [("nothing", 1), ("cmake", 0)])
def test_a_model_that_can_be_built_here_has_jobs(
    lacks: str, queued: int, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    (station.items / SECOND).mkdir()
    (station.items / SECOND / "kimspec.edn").write_text('{"species" "Al"}')
    (station.items / SECOND / "CMakeLists.txt").touch()
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == lacks else which(name))
    direct(station, (SECOND,))
    assert [model for _, model, *_ in rows(station)] == [SECOND] * queued


def test_no_pair_is_queued_twice(station: Station) -> None:
    """Not by any of its items, not by the same update again, not once it is done or failed."""
    names = [world.TEST, world.MODEL, world.DRIVER, world.TEST]
    direct(station, *((each,) for each in names))
    assert station.counts() == {"ready": 1}
    with Jobs(station.settings.queue, "0") as worker:
        lease = worker.take(0)
        assert lease
        worker.fail(lease, "why", "said")
        direct(station, (world.MODEL,))
        assert station.counts() == {"failed": 1}
        station.server.sql("select pipeline.retry(null)")
        lease = worker.take(5)
        assert lease
        worker.finish(lease, 1, "")
    direct(station, (world.MODEL,))
    assert station.counts() == {"done": 1}


def test_the_journal_tells_what_is_no_new_job(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    """A pair that is known, and a Model that is not in this machine's KIM API."""
    caplog.set_level("INFO", logger="pipeline-director")
    world.item(station.items, SECOND, species=["Al", "Ni"])
    direct(station, (world.TEST,), (world.TEST,), (SECOND,))
    lacks = f"the KIM API here lacks {SECOND}"
    assert caplog.messages == [
        f"{world.TEST}: 1 pairs, 1 new jobs; {lacks}",
        f"{world.TEST}: 1 pairs, 0 new jobs; {lacks}",
        f"{SECOND}: 0 pairs, 0 new jobs; {lacks}",
    ]
    assert notes(station, "done")[-1] == f"0 pairs, 0 new jobs; {lacks}"


def test_a_new_version_is_a_new_job(station: Station) -> None:
    direct(station, (world.TEST,))
    newer = f"{world.MODEL[:-1]}1"
    world.item(station.items, newer, species=["Al"])
    (station.models / newer).mkdir()
    direct(station, (newer,))
    assert [model for _, model, *_ in rows(station)] == [world.MODEL, newer]


def test_the_lowest_priority_comes_first(station: Station) -> None:
    world.item(station.items, SECOND, species=["Al", "Ni"])
    (station.models / SECOND).mkdir()
    direct(station, (world.MODEL, 7), (SECOND, 3))
    assert [model for _, model, *_ in rows(station)] == [SECOND, world.MODEL]


def test_what_is_pending_is_not_run(station: Station) -> None:
    direct(station, (world.TEST, 5, "pending"))
    assert (rows(station), notes(station, "done")) == ([], ["1 pairs"])


@pytest.mark.parametrize(
    "bad",
    [
        ("",),
        ("../../etc/passwd",),
        ("$(id)__TE_000000000901_000",),
        ("Energy_fcc_Al__TE_000000000901_000\n",),
        ("\033[2J",),
        ("Unknown__TE_000000000999_000",),
        (world.TEST, -1),
        (world.TEST, 2**32),
    ],
)
def test_a_bad_update_is_set_aside_and_the_next_is_served(
    bad: tuple[Any, ...], station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    direct(station, bad, (world.TEST,))
    assert station.counts() == {"ready": 1}
    (why,) = notes(station, "failed")
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    said = record.getMessage()
    assert why in said
    assert "\n" not in said
    assert "\033" not in said


def test_an_item_that_needs_too_many_others_has_no_job(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"Part__TD_{number:012d}_000" for number in range(101)]
    for name in names:
        world.item(station.items, name)
    world.make_test(station.items, kimid="Many__TE_000000000920_000", dependencies=names)
    direct(station, ("Many__TE_000000000920_000",), (world.TEST,))
    assert [test for test, *_ in rows(station)] == [world.TEST]
    assert "no job: Tuple should have at most 100 items" in caplog.text


def test_an_update_of_a_broken_item_is_set_aside(station: Station) -> None:
    (station.items / world.DRIVER / "kimspec.edn").write_text("{")
    direct(station, (world.TEST,))
    assert (rows(station), len(notes(station, "failed"))) == ([], 1)


def test_results_that_a_test_needs_come_first(station: Station) -> None:
    """They are given to it as they are told to the queue."""
    after = "After_fcc_Al__TE_000000000909_000"
    world.make_test(station.items, kimid=after, dependencies=[world.TEST])
    direct(station, (after, 4))
    assert station.counts() == {"ready": 1, "waiting": 1}
    with Jobs(station.settings.queue, "0") as worker:
        first = worker.take(0)
        assert first
        assert first.job().test == world.TEST
        worker.finish(first, 1, "[1]")
        second = worker.take(5)
        assert second
        assert (second.job().test, second.job().given) == (after, {world.TEST: "[1]"})


def test_tests_that_need_each_other_are_refused(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    other = "Other_fcc_Al__TE_000000000910_000"
    world.make_test(station.items, kimid=other, dependencies=[world.TEST])
    spec = station.items / world.TEST / "kimspec.edn"
    spec.write_text(spec.read_text().replace("{", f'{{"dependencies" ["{other}"] ', 1))
    direct(station, (other,))
    assert rows(station) == []
    assert "needs its own results" in caplog.text


class Crash(BaseException):
    """Power is gone."""


@pytest.mark.parametrize("function", ["take_update", "add_jobs", "end_update"])
@pytest.mark.parametrize("answered", [False, True])
def test_a_crash_queues_no_pair_twice_and_loses_none(
    function: str, answered: bool, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after any of its calls; another director has the update when the lease ends."""
    rows_of = Database.rows

    def crash(self: Database, called: str, *values: object) -> list[tuple[Any, ...]]:
        if called == function:
            if answered:
                rows_of(self, called, *values)
            raise Crash
        return rows_of(self, called, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "rows", crash)
        with pytest.raises(Crash):
            direct(station, (world.TEST,))
    station.server.sql("update pipeline.updates set lease = now() - interval '1 s'")
    for _ in range(2):
        direct(station)
    assert station.counts() == {"ready": 1}
    assert len(notes(station, "done")) == 1


def test_no_queue_is_one_line(station: Station) -> None:
    station.server.kill()
    with pytest.raises(QueueError, match=r"^the queue: .*(refused|No such file)"):
        Updates(station.director_settings.queue)


def test_a_director_elsewhere_fetches_the_items(station: Station) -> None:
    """When asked, as there may be new ones; what it cannot fetch it leaves on the queue."""
    settings = station.settings  # its own items are a worker's, who has none yet
    station.submit(world.TEST)
    broken = settings.remote.model_copy(update={"items": "/no/such/place/"})
    with Updates(station.director_settings.queue) as queue:
        away = settings.model_copy(update={"remote": broken})
        with pytest.raises(TransferError, match="the items could not be fetched"):
            Director(away, queue).serve(0)
        assert not Director(settings, queue).serve(0)  # it rests for a while
        assert station.server.sql("select state from pipeline.updates") == [("ready",)]
        station.server.sql("update pipeline.updates set after = now()")
        assert Director(settings, queue).serve(0)
    assert [test for test, *_ in rows(station)] == [world.TEST]
