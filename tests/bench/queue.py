"""What the queue costs a worker for each job, and how busy the CPUs are with jobs of 5 s."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from deploys.errors import BoxError
from kimpipeline.errors import PipelineError
from kimpipeline.files import scratch
from kimpipeline.items import Repository
from kimpipeline.messages import JOBS, RESULTS, Job
from kimpipeline.queue import Queue
from kimpipeline.sandbox import choose
from kimpipeline.slot import Slot
from kimpipeline.transfer import deliver
from kimpipeline.worker import Worker
from tasks.machines import shell
from tests.bench.rows import Row, Step, Target
from tests.pipeline import world
from tests.pipeline.station import Station, until

_OVERHEAD = Target(high=50)
_BUSY = Target(low=95)
_TESTS, _MODELS = 7, 7  # each item is fetched for the first of its jobs
_RUN = 0.2  # seconds of a runner whose overhead is measured
_LONG, _EACH = 5.0, 6  # seconds of a runner that keeps a CPU busy, and how many for each worker


def queue(step: Step) -> list[Row]:
    """Milliseconds a job, and the share of the CPUs' time, with rsync to folders of this machine.

    Raises:
        BoxError: a program is missing, or a job failed.
    """
    for program in ("beanstalkd", "rsync", "bwrap"):
        shell.find(program)
    try:
        step(f"running {_TESTS * _MODELS} jobs of {_RUN:g} s")
        overheads, transfers = _overheads()
        workers = os.cpu_count() or 1
        step(f"running {_EACH} jobs of {_LONG:g} s on each of {workers} workers")
        busy = _busy(workers)
    except PipelineError as error:
        raise BoxError(str(error)) from error
    return [
        Row("queue, a job's overhead", "ms", 1000 * median(overheads), target=_OVERHEAD),
        Row("queue, the worst job's overhead", "ms", 1000 * max(overheads)),
        Row("queue, an rsync of its results alone", "ms", 1000 * median(transfers)),
        Row("CPUs busy with jobs of 5 s", "%", 100 * busy, target=_BUSY),
    ]


def _overheads() -> tuple[list[float], list[float]]:
    """Seconds of a worker from a job's reserve to its report, without those of its runner; and
    those of delivering each job's results once more, which rsync mostly spends asleep.
    """
    with _station() as station:
        jobs = _put(station, f"sleep {_RUN}\n{world.GOOD}", _TESTS, _MODELS)
        settings = station.settings
        took = []
        with Slot(settings.folders.work, "0") as slot, Queue(settings.queue, JOBS) as connection:
            worker = Worker(settings, connection, choose(settings), slot, lambda: False)
            for _ in range(jobs):
                began = time.monotonic()
                worker.serve(0)
                took.append(time.monotonic() - began - _RUN)
        _expect(station, jobs)
        transfers = []
        for job in station.delivered():
            began = time.monotonic()
            deliver(station.results / job, f"again-{job}", settings.remote, lambda: None)
            transfers.append(time.monotonic() - began)
    return took, transfers


def _busy(workers: int) -> float:
    """The share of the workers' time in which their runners ran, from the first job's put."""
    with _station() as station:
        services = [station.start("worker", "--slot", f"{number}") for number in range(workers)]
        with station.client() as client:
            client.use(JOBS)
            until(lambda: client.stats_tube(JOBS)["current-waiting"] == workers)
        began = time.monotonic()
        # ended by timeout, or it kept no CPU busy
        lines = f"timeout {_LONG:g} yes >/dev/null\n[ $? = 124 ] || exit 1\n{world.GOOD}"
        jobs = _put(station, lines, _EACH, workers)
        until(lambda: station.count(RESULTS, "ready") == jobs, seconds=_EACH * _LONG * 3)
        took = time.monotonic() - began
        _expect(station, jobs)
        for service in services:
            service.terminate()
            service.wait(20)
    return jobs * _LONG / (workers * took)


@contextmanager
def _station() -> Iterator[Station]:
    with scratch() as folder, Station(folder / "station") as station:
        yield station


def _put(station: Station, lines: str, tests: int, models: int) -> int:
    """Put a job for each of so many Tests, with these runners, with each of so many Models."""
    world.program(world.item(station.items, world.DRIVER) / "runner", "true")
    names = [f"Pair_Al__MO_{number:012d}_000" for number in range(models)]
    for name in names:
        world.item(station.items, name, species=["Al"])
    with Queue(station.settings.queue) as connection:
        for number in range(tests):
            test = f"Energy_fcc_Al__TE_{number:012d}_000"
            world.make_test(station.items, lines, test)
            for model in names:
                pair = world.pair(Repository(station.items), test, model)
                job = Job(job=pair.id, test=test, model=model, items=(world.DRIVER,))
                connection.put(JOBS, job)
    return tests * models


def _expect(station: Station, jobs: int) -> None:
    if len(station.delivered()) != jobs:
        raise BoxError(f"{len(station.delivered())} of {jobs} jobs have results; {station.said()}")
