"""A worker with a real queue and real rsync: what becomes of a job, good, bad or hostile."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kimpipeline.errors import ItemError, SandboxError, TransferError
from kimpipeline.kim import edn
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import job_id
from kimpipeline.queue.database import Database
from kimpipeline.queue.jobs import Jobs
from kimpipeline.queue.messages import Job
from kimpipeline.queue.slot import Slot
from kimpipeline.queue.transfer import deliver, fetch
from kimpipeline.queue.updates import Entry, Updates
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.settings import Settings
from kimpipeline.worker import Stopped, Worker
from tests.pipeline import world
from tests.pipeline.station import Station, until

JOB = Job(
    job=job_id(world.TEST, world.MODEL, [world.DRIVER]),
    test=world.TEST,
    model=world.MODEL,
    items=(world.DRIVER,),
)
REACH = Path(__file__).parent / "kim/items"
Serve = Callable[..., None]


@pytest.fixture
def serve(station: Station, sandbox: Sandbox) -> Iterator[Serve]:
    """Queues jobs, and has a worker take them."""

    def serve(
        *jobs: Job,
        settings: Settings | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        station.add(*jobs)
        settings = settings or station.settings
        with (
            Slot(settings.folders.work, "0") as slot,
            Jobs(settings.queue, "0") as queue,
            Worker(settings, queue, sandbox, slot, stopped) as worker,
        ):
            while worker.serve(0):
                pass

    yield serve
    assert not station.counts()["running"]


def runner(station: Station, lines: str) -> None:
    world.program(station.items / world.TEST / "runner", lines)


def good(station: Station) -> list[tuple[str, str]]:
    """The jobs that were reported good, and their results."""
    return [(job, text) for job, how, text in station.attempts() if how == "good"]


def failure(station: Station) -> tuple[str, str, str]:
    """The one job that failed, why, and the end of its log; nothing was delivered."""
    (found,) = station.server.sql(
        "select job, reason, log from pipeline.attempts where how = 'failed'"
    )
    assert station.counts()["failed"] == 1
    assert station.delivered() == []
    job, reason, log = found
    return job, reason, log


def test_a_job_is_fetched_run_delivered_and_reported(station: Station, serve: Serve) -> None:
    runner(station, f"{world.GOOD}; echo words")
    serve(JOB)
    ((job, text),) = good(station)
    assert job == JOB.job
    assert '"instance-id" 1' in text
    folder = station.results / JOB.job
    assert edn.read(folder / "kimspec.edn")["item-type"] == "tr"
    assert (folder / "pipeline.stdout").read_text() == "words\n"
    fetched = ItemFolder(station.settings.folders.items)
    assert fetched.names() == sorted([world.DRIVER, world.MODEL, world.TEST])
    assert station.counts() == {"done": 1}
    assert list((station.settings.folders.work / "0").iterdir()) == []


def built_here(station: Station, *gone: str) -> Job:
    """A job all of whose items have to be built; those that are ``gone`` the gateway lacks."""
    for folder in REACH.iterdir():
        shutil.copytree(folder, station.items / folder.name)
    for name in gone:
        shutil.rmtree(station.items / name)
    test, model = "Reach_Al__TE_000000000964_000", "Reach_Al__MO_000000000962_000"
    items = ("Reach__MD_000000000961_000", "Reach__TD_000000000963_000")
    return Job(job=job_id(test, model, items), test=test, model=model, items=items)


def test_a_worker_builds_what_a_job_brings_as_sources(station: Station, serve: Serve) -> None:
    """It fetches the driver of a Model that is not installed, too."""
    job = built_here(station)
    serve(job)
    ((_, text),) = good(station)
    assert '"si-value" 4.5e-10' in text
    spec = edn.read(station.results / job.job / "pipelinespec.edn")
    assert set(spec["provenance"]["built"]) == {job.model, *job.items}


def test_a_build_that_fails_is_its_jobs_failure_with_its_last_lines(
    station: Station, serve: Serve
) -> None:
    job = built_here(station)
    (station.items / job.items[1] / "runner.cpp").write_text("int main() { return nothing; }\n")
    serve(job)
    name, reason, log = failure(station)
    assert name == job.job
    assert reason.startswith(f"{job.items[1]} cannot be built: failed with exit code 2: ")
    assert "error: " in log
    serve(JOB)
    assert station.delivered() == [JOB.job]


def test_a_models_driver_that_the_gateway_lacks_is_that_jobs_failure(
    station: Station, serve: Serve
) -> None:
    job = built_here(station, "Reach__MD_000000000961_000")
    serve(job)
    assert "Reach__MD_000000000961_000: there is no such item at " in failure(station)[1]


def own_rsync(station: Station, lines: str) -> Settings:
    """Settings of a worker that has all items, and delivers by these lines of shell."""
    world.program(station.root / "rsync", lines)
    values = {"items": None, "rsync": str(station.root / "rsync"), "timeout": 20}
    settings = station.settings
    folders = settings.folders.model_copy(update={"items": station.items})
    remote = settings.remote.model_copy(update=values)
    return settings.model_copy(update={"folders": folders, "remote": remote})


def test_the_next_job_runs_while_results_are_on_their_way(station: Station, serve: Serve) -> None:
    second = "Second_fcc_Al__TE_000000000909_000"
    world.make_test(station.items, f"echo second; {world.GOOD}", second)
    items = (world.DRIVER,)
    other = Job(job=job_id(second, world.MODEL, items), test=second, model=world.MODEL, items=items)
    said = f"{station.settings.folders.work}/0/*/*/pipeline.stdout"
    lines = f'until grep -qs second {said}; do sleep 0.05; done; exec rsync "$@"'
    serve(JOB, other, settings=own_rsync(station, lines))
    reported = [job for job, _ in good(station)]
    assert reported == [JOB.job, other.job]
    assert station.delivered() == sorted(reported)


def test_results_on_their_way_are_given_up_by_one_who_stops(station: Station, serve: Serve) -> None:
    began = station.root / "began"
    settings = own_rsync(station, f"touch {began}; exec sleep 60")
    with pytest.raises(Stopped):
        serve(JOB, settings=settings, stopped=began.exists)
    assert station.counts() == {"ready": 1}
    assert station.attempts() == [(JOB.job, "given back", "")]


def test_a_failed_job_is_delivered_and_reported(station: Station, serve: Serve) -> None:
    runner(station, "echo some words; echo '\033[2J' >&2; exit 3")
    serve(JOB)
    job, reason, log = failure(station)
    assert (job, reason) == (JOB.job, "failed with exit code 3")
    assert log == "== pipeline.stdout\nsome words\n\n== pipeline.stderr\n?[2J\n"
    assert edn.read(station.results / JOB.job / "kimspec.edn")["item-type"] == "er"


def test_a_second_run_takes_the_place_of_the_first(station: Station, serve: Serve) -> None:
    """As when a worker died after it delivered: nothing of the first run stays."""
    folder = station.results / JOB.job
    folder.mkdir()
    (folder / "half").write_text("written")
    serve(JOB)
    assert station.delivered() == [JOB.job]
    assert not (folder / "half").exists()


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("test", "../../../etc/passwd"),
        ("test", f"{world.TEST}\n"),
        ("test", "\033[2J"),
        ("test", world.DRIVER),
        ("model", "$(touch pwned)__MO_000000000903_000"),
        ("model", world.TEST),
        ("items", ["../x"]),
        ("items", []),  # another job's id
    ],
)
def test_what_is_no_job_has_failed_and_the_next_is_served(
    column: str, bad: object, station: Station, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """As a gateway without its database's own check of a job's id could give it."""
    other = Job(job=job_id(world.TEST, world.MODEL, []), test=world.TEST, model=world.MODEL)
    station.add(other)
    station.server.sql("alter table pipeline.jobs drop constraint jobs_check")
    station.server.sql(f"update pipeline.jobs set {column} = %s", bad)
    with caplog.at_level(logging.WARNING):
        serve(JOB)
    assert station.delivered() == [JOB.job]
    assert station.states() == {other.job: "failed", JOB.job: "done"}
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "\033" not in record.getMessage()


def test_an_unknown_item_fails_its_job(station: Station, serve: Serve) -> None:
    other = "Unknown__TE_000000000999_000"
    job = Job(job=job_id(other, world.MODEL, []), test=other, model=world.MODEL)
    serve(job)
    assert f"{other}: there is no such item at" in failure(station)[1]
    serve(JOB)
    assert station.delivered() == [JOB.job]


def test_items_that_need_others_than_the_job_says_fail_it(station: Station, serve: Serve) -> None:
    job = Job(job=job_id(world.TEST, world.MODEL, []), test=world.TEST, model=world.MODEL)
    serve(job)
    assert "there is no such item" in failure(station)[1]


def given(station: Station, job: Job, test: str, results: str) -> None:
    """Queue a job that needs the results of a Test, and report these."""
    first = Job(job=job_id(test, job.model, []), test=test, model=job.model)
    station.submit("x")
    with Updates(station.server.settings("d2")) as updates:
        taken = updates.take(0)
        assert taken
        updates.add(taken, [Entry(first), Entry(job, (first.job,))])
        updates.finish(taken, "")
    with Jobs(station.server.settings("w2"), "0") as worker:
        lease = worker.take(0)
        assert lease
        worker.finish(lease, 1, results)


def test_results_that_came_before_are_given(station: Station, serve: Serve) -> None:
    after = "After_fcc_Al__TE_000000000909_000"
    lines = f"read -r before; cat $before >&2; {world.GOOD}"
    folder = world.make_test(station.items, lines, after, dependencies=[world.TEST])
    (folder / "pipeline.stdin.tpl").write_text(f'@< path("{world.TEST}") >@\n')
    (folder / "dependencies").symlink_to("/var/tmp")  # which must not be written to
    items = (world.DRIVER, world.TEST)
    job = Job(
        job=job_id(after, world.MODEL, items),
        test=after,
        model=world.MODEL,
        items=tuple(sorted(items)),
    )
    given(station, job, world.TEST, "[1 2 3]")
    serve()
    assert station.delivered() == [job.job]
    assert (station.results / job.job / "pipeline.stderr").read_text() == "[1 2 3]"
    assert not Path("/var/tmp", f"{world.TEST}.edn").exists()


def test_a_dependency_without_a_version_is_the_one_of_the_job(
    station: Station, serve: Serve
) -> None:
    """Whatever newer ones the worker has; and the Model's driver is not fetched."""
    after, needed = "After_fcc_Al__TE_000000000909_000", "Before_fcc_Al__TE_000000000910_000"
    model, driver = "Driven_Al__MO_000000000911_000", "Pair__MD_000000000912_000"
    world.item(station.items, model, species=["Al"], model_driver=driver)
    world.make_test(station.items, kimid=needed)
    folder = world.make_test(station.items, f"cat >&2; {world.GOOD}", after)
    (folder / "dependencies.edn").write_text('["TE_000000000910"]')
    (folder / "pipeline.stdin.tpl").write_text(f'@< path("{needed}") >@\n')
    world.make_test(station.settings.folders.items, kimid=f"{needed[:-1]}1")
    items = tuple(sorted((world.DRIVER, needed, driver)))
    job = Job(
        job=job_id(after, model, items),
        test=after,
        model=model,
        items=items,
    )
    given(station, job, needed, "[1]")
    serve()
    assert station.delivered() == [job.job]


def test_a_long_job_stays_with_its_worker(place: Path, sandbox: Sandbox) -> None:
    """It is touched often enough: its time to run is 3 s, and it takes 5."""
    with Station(place / "slow", ttr=3) as station:
        world.repository(station.items, f"echo x; sleep 5; {world.GOOD}")
        station.add(JOB)
        settings = station.settings
        with (
            Slot(settings.folders.work, "0") as slot,
            Jobs(settings.queue, "0") as queue,
            Worker(settings, queue, sandbox, slot, lambda: False) as worker,
        ):
            worker.serve(0)
        assert station.delivered() == [JOB.job]
        assert station.counts() == {"done": 1}


def test_a_job_that_is_anothers_by_now_is_let_go(
    station: Station, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator cancelled it, as here, or its lease has passed."""
    rows = Database.rows

    def lost(self: Database, function: str, *values: object) -> list[tuple[Any, ...]]:
        if function == "touch":
            station.server.sql("select pipeline.cancel(%s)", [JOB.job])
        return rows(self, function, *values)

    runner(station, "sleep 4")
    monkeypatch.setattr(Database, "rows", lost)
    queue = station.settings.queue.model_copy(update={"ttr": 3})
    serve(JOB, settings=station.settings.model_copy(update={"queue": queue}))
    assert station.attempts() == [(JOB.job, "cancelled", "")]
    assert not (station.results / JOB.job).exists()


def rests(station: Station) -> bool:
    """Whether the job is to be run again, after a while."""
    call = "select state = 'ready' and after > now() + interval '9 s' from pipeline.jobs"
    return station.server.sql(call) == [(True,)]


def test_results_that_cannot_be_delivered_are_tried_again(station: Station, serve: Serve) -> None:
    """Later, and by any worker: the job goes back to the queue."""
    station.results.rmdir()
    station.results.write_text("a file in its place")
    remote = station.settings.remote.model_copy(update={"timeout": 1})
    serve(JOB, settings=station.settings.model_copy(update={"remote": remote}))
    assert rests(station)
    assert station.attempts() == [(JOB.job, "given back", "")]


def test_one_who_is_told_to_stop_gives_its_job_back(station: Station, serve: Serve) -> None:
    runner(station, "sleep 30")
    with pytest.raises(Stopped):
        serve(JOB, stopped=lambda: True)
    assert station.counts() == {"ready": 1}


def test_a_machine_that_cannot_run_jobs_gives_them_back(station: Station) -> None:
    class Broken:
        name = "broken"
        holds_disk = False

        def room(self, scratch: Path) -> Path:
            return scratch / "test"

        def start(self, *_: object) -> None:
            raise SandboxError("cannot")

    station.add(JOB)
    settings = station.settings
    with Slot(settings.folders.work, "0") as slot, Jobs(settings.queue, "0") as queue:
        broken: Sandbox = Broken()  # type: ignore[assignment]
        with pytest.raises(SandboxError):
            Worker(settings, queue, broken, slot, lambda: False).serve(0)
        assert rests(station)


def test_two_workers_are_not_in_one_slot(tmp_path: Path) -> None:
    with Slot(tmp_path, "0"), pytest.raises(SandboxError, match="another worker is in it"):
        Slot(tmp_path, "0").__enter__()


def test_results_too_long_for_the_queue_are_delivered_all_the_same(
    station: Station, serve: Serve
) -> None:
    large = {**world.RESULT, "disclaimer": "x" * 1_000_000}
    edn.write(station.items / world.TEST / "results.edn", [large])
    serve(JOB)
    assert good(station) == [(JOB.job, "")]
    assert station.delivered() == [JOB.job]


def test_the_longest_failure_is_reported(station: Station, serve: Serve) -> None:
    """Of characters that take four bytes each."""
    script = "import sys; sys.stdout.write(chr(0x1F600) * 99999); sys.stderr.write(chr(34) * 99999)"
    runner(station, f"python3 -X utf8 -c '{script}'; exit 3")
    serve(JOB)
    assert len(failure(station)[2]) > 3000


def nothing() -> None:
    """A beat that nobody needs."""


def test_no_name_reaches_rsync_but_a_kim_id(station: Station) -> None:
    items = ItemFolder(station.root / "fetched")
    for name in ("../items", "-e sh", "host:x", f"{world.TEST}/../..", f"{world.TEST}\n"):
        with pytest.raises(ItemError, match="is no KIM id"):
            fetch(name, items, station.settings.remote, nothing)
    assert not items.root.exists()


def test_links_out_of_an_item_and_devices_do_not_come(station: Station) -> None:
    source = station.items / world.TEST
    (source / "out").symlink_to("/etc/passwd")
    (source / "up").symlink_to("../../../x")
    (source / "own").symlink_to("runner")
    (source / "runner").chmod(0o6777)
    items = ItemFolder(station.root / "fetched")
    fetch(world.TEST, items, station.settings.remote, nothing)
    found = {path.name for path in (items.root / world.TEST).iterdir()}
    assert found == {"kimspec.edn", "own", "pipeline.stdin.tpl", "results.edn", "runner"}
    assert (items.root / world.TEST / "runner").stat().st_mode & 0o7777 == 0o755


def test_what_was_half_fetched_is_no_item(station: Station) -> None:
    items = ItemFolder(station.root / "fetched")
    gone = station.settings.remote.model_copy(update={"items": "/no/such/place/"})
    with pytest.raises(ItemError, match="there is no such item at"):
        fetch(world.TEST, items, gone, nothing)
    world.program(station.root / "rsync", "exit 12")
    broken = station.settings.remote.model_copy(update={"rsync": str(station.root / "rsync")})
    with pytest.raises(TransferError, match="rsync's exit code is 12"):
        fetch(world.TEST, items, broken, nothing)
    assert list(items.root.iterdir()) == []


def test_links_are_not_delivered(station: Station, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "file").write_text("x")
    deliver(tmp_path, JOB.job, station.settings.remote, nothing)
    assert [path.name for path in (station.results / JOB.job).iterdir()] == ["file"]


def test_a_folder_for_results_is_made(station: Station, tmp_path: Path) -> None:
    """As the settings' own default on a box that nobody prepared; a path through a file is none."""
    (tmp_path / "file").write_text("x")
    remote = station.settings.remote
    there = remote.model_copy(update={"results": f"{station.root}/a/b/"})
    deliver(tmp_path, JOB.job, there, nothing)
    assert (station.root / "a/b" / JOB.job / "file").read_text() == "x"
    nowhere = remote.model_copy(update={"results": f"{tmp_path}/file/b/"})
    with pytest.raises(TransferError, match="file/b/: Not a directory"):
        deliver(tmp_path, JOB.job, nowhere, nothing)


def test_a_transfer_that_hangs_is_ended(station: Station, tmp_path: Path) -> None:
    world.program(station.root / "rsync", "exec sleep 60")
    values = {"rsync": str(station.root / "rsync"), "timeout": 1}
    beats: list[int] = []
    with pytest.raises(TransferError, match="not done after 1 s"):
        deliver(
            tmp_path,
            JOB.job,
            station.settings.remote.model_copy(update=values),
            lambda: beats.append(1),
        )
    assert beats


def test_a_service_stops_when_told_and_leaves_nothing(station: Station) -> None:
    runner(station, "sleep 54321")
    station.add(JOB)
    worker = station.start("worker")
    until(lambda: station.counts()["running"] == 1)
    until(lambda: any((station.settings.folders.work / "0").iterdir()))
    worker.terminate()
    assert worker.wait(20) == 0, station.said()
    assert station.counts() == {"ready": 1}
    assert list((station.settings.folders.work / "0").iterdir()) == []


def test_a_worker_of_a_box_that_is_to_be_reset_ends_its_job_and_takes_no_other(
    station: Station,
) -> None:
    drain = station.root / "drain"
    text = station.file.read_text().replace("[folders]", f'[folders]\ndrain = "{drain}"')
    station.file.write_text(text)
    runner(station, f"sleep 3; {world.GOOD}")
    second = "Second_fcc_Al__TE_000000000909_000"
    other = Job(job=job_id(second, world.MODEL, []), test=second, model=world.MODEL)
    station.add(JOB, other)
    worker = station.start("worker")
    until(lambda: station.counts()["running"] == 1)
    drain.touch()
    assert worker.wait(20) == 0, station.said()
    assert station.delivered() == [JOB.job]
    assert station.states() == {JOB.job: "done", other.job: "ready"}


def test_a_queue_that_is_a_moment_late_is_waited_for(place: Path) -> None:
    """As at boot, when the tunnel and the worker start side by side."""
    with Station(place / "late", reach=20) as station:
        station.server.kill()
        worker = station.start("worker")
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(3)
        station.server.start()
        until(lambda: station.overview()["workers"] == 1)
        assert worker.poll() is None


def test_a_service_without_a_queue_says_one_line(station: Station) -> None:
    station.server.kill()
    for name in ("worker", "director"):
        assert station.start(name).wait(20) == 1
    said = station.said().splitlines()
    assert len([line for line in said if "the queue: " in line]) == 2
    assert "Traceback" not in station.said()
