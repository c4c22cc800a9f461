"""What the queue costs a worker for each job, and how busy the CPUs are with jobs of 5 s."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from deploys.errors import BoxError
from kimpipeline.errors import PipelineError
from kimpipeline.items import Repository
from kimpipeline.messages import JOBS, RESULTS, Job
from kimpipeline.queue import Queue
from kimpipeline.sandbox import choose
from kimpipeline.slot import Slot
from kimpipeline.worker import Worker
from tasks.machines import shell
from tests.bench.rows import Row, Step, Target
from tests.pipeline import world
from tests.pipeline.station import Station, until

_OVERHEAD = Target(high=50)
_BUSY = Target(low=95)
_JOBS = 50
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
        step(f"running {_JOBS} jobs of {_RUN:g} s")
        overheads = _overheads()
        workers = os.cpu_count() or 1
        step(f"running {_EACH} jobs of {_LONG:g} s on each of {workers} workers")
        busy = _busy(workers)
    except PipelineError as error:
        raise BoxError(str(error)) from error
    return [
        Row("queue, a job's overhead", "ms", 1000 * median(overheads), target=_OVERHEAD),
        Row("queue, the worst job's overhead", "ms", 1000 * max(overheads)),
        Row("CPUs busy with jobs of 5 s", "%", 100 * busy, target=_BUSY),
    ]


def _overheads() -> list[float]:
    """Seconds of a worker from a job's reserve to its report, without those of its runner."""
    with _station(f"sleep {_RUN}\n{world.GOOD}") as station:
        jobs = _put(station, _JOBS)
        settings = station.settings
        took = []
        with Slot(settings.folders.work, "0") as slot, Queue(settings.queue, JOBS) as connection:
            worker = Worker(settings, connection, choose(settings), slot, lambda: False)
            for _ in range(jobs):
                began = time.monotonic()
                worker.serve(0)
                took.append(time.monotonic() - began - _RUN)
        _expect(station, jobs)
    return took[1:]  # the first fetches the items that all share


def _busy(workers: int) -> float:
    """The share of the workers' time in which their runners ran, from the first job's put."""
    with _station(f"timeout {_LONG:g} yes >/dev/null\n{world.GOOD}") as station:
        services = [station.start("worker", "--slot", f"{number}") for number in range(workers)]
        with station.client() as client:
            client.use(JOBS)
            until(lambda: client.stats_tube(JOBS)["current-waiting"] == workers)
        began = time.monotonic()
        jobs = _put(station, workers * _EACH)
        until(lambda: station.count(RESULTS, "ready") == jobs, seconds=_EACH * _LONG * 3)
        took = time.monotonic() - began
        _expect(station, jobs)
        for service in services:
            service.terminate()
            service.wait(20)
    return jobs * _LONG / (workers * took)


@contextmanager
def _station(lines: str) -> Iterator[Station]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kimpipeline-bench-") as name:
        Path(name).chmod(0o755)  # a job's user has to reach its folder
        with Station(Path(name) / "station") as station:
            world.repository(station.items, lines)
            yield station


def _put(station: Station, count: int) -> int:
    """Put a job for each of as many Models; how many they are."""
    with Queue(station.settings.queue) as connection:
        for number in range(count):
            model = f"Pair_Al__MO_{number:012d}_000"
            world.item(station.items, model, species=["Al"])
            pair = world.pair(Repository(station.items), model=model)
            items = (world.DRIVER,)
            connection.put(JOBS, Job(job=pair.id, test=world.TEST, model=model, items=items))
    return count


def _expect(station: Station, jobs: int) -> None:
    if len(station.delivered()) != jobs:
        raise BoxError(f"{len(station.delivered())} of {jobs} jobs have results; {station.said()}")
