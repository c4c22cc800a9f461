"""What the queue costs its database and a worker for each job, and how busy jobs keep the CPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from deploys.errors import BoxError
from kimpipeline.errors import PipelineError
from kimpipeline.files import scratch
from kimpipeline.kim.items import ItemFolder
from kimpipeline.queue.jobs import Jobs
from kimpipeline.queue.messages import Job
from kimpipeline.queue.report import Report
from kimpipeline.queue.slot import Slot
from kimpipeline.queue.transfer import deliver
from kimpipeline.run.sandbox import opened
from kimpipeline.worker import Worker
from tasks.desk import shell
from tests.bench.shared.cycles import CLIENTS, Cycles, cycles
from tests.bench.shared.rows import Row, Step, Target
from tests.pipeline import world
from tests.pipeline.station import Station, until

_OVERHEAD = Target(high=50)
_BUSY = Target(low=95)
_CYCLE, _RATE, _GROWTH = Target(high=3), Target(low=500), Target(high=1.5)
_FEW, _MANY = 2000, 1_000_000  # jobs in the database; of the few, most are taken
_TESTS, _MODELS = 7, 7  # each item is fetched for the first of its jobs
_RUN = 0.2  # seconds of a runner whose overhead is measured
_LONG, _EACH = 5.0, 6  # seconds of a runner that keeps a CPU busy, and how many for each worker


def queue(step: Step) -> list[Row]:
    """Milliseconds a job, and the share of the CPUs' time, with rsync to folders of this machine.

    Raises:
        BoxError: a program is missing, or a job failed.
    """
    for program in ("rsync", "rrsync", "bwrap"):
        shell.find(program)
    step(f"taking and finishing jobs of {_FEW:,} and of {_MANY:,}")
    few, many = cycles(_FEW), cycles(_MANY)
    try:
        step(f"running {_TESTS * _MODELS} jobs of {_RUN:g} s")
        measured = _overheads()
        step("running them again, with the gateway's end of rsync in place of a folder")
        gateway = _overheads(far=True)
        workers = os.cpu_count() or 1
        step(f"running {_EACH} jobs of {_LONG:g} s on each of {workers} workers")
        busy = _busy(workers)
    except PipelineError as error:
        raise BoxError(str(error)) from error
    rate = f"queue, {CLIENTS} clients of a database with {_MANY:,} jobs"
    return [
        _row(f"a cycle in a database with {_MANY:,} jobs", many.alone, _CYCLE),
        Row("queue, the same, and with few jobs", "ms", *_both(many, few), target=_GROWTH),
        Row(rate, "cycles/s", many.rate, target=_RATE),
        _row("a job costs its worker", median(measured.free), _OVERHEAD),
        _row("the worst job costs its worker", max(measured.free)),
        _row("a job, from reserve to reported", median(measured.reported), _OVERHEAD),
        _row("an rsync of its results alone", median(measured.rsync)),
        _row("the same job, to a gateway's transfer, without ssh", median(gateway.reported)),
        _row("an rsync to that alone", median(gateway.rsync)),
        Row("CPUs busy with jobs of 5 s", "%", 100 * busy, target=_BUSY),
    ]


def _both(many: Cycles, few: Cycles) -> tuple[float, float]:
    return 1000 * many.alone, 1000 * few.alone


def _row(what: str, seconds: float, target: Target | None = None) -> Row:
    return Row(f"queue, {what}", "ms", 1000 * seconds, target=target)


@dataclass(frozen=True)
class _Measured:
    """Seconds of each job without those of its runner: from its reserve until the worker is free
    for the next, and until it is reported; and those of delivering its results once more, which
    rsync mostly spends asleep.
    """

    free: list[float]
    reported: list[float]
    rsync: list[float]


class _Clock(Report):
    """Notes when each job was reported."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def job(self, *, failed: bool) -> None:
        super().job(failed=failed)
        self.times.append(time.monotonic())


def _overheads(*, far: bool = False) -> _Measured:
    with _station(far=far) as station:
        # what its runner takes is what passes within it; how it is shut in counts as overhead
        lines = (
            "date +%s%N >output/began",
            f"sleep {_RUN}",
            world.GOOD,
            "date +%s%N >output/ended",
        )
        jobs = _put(station, "\n".join(lines), _TESTS, _MODELS)
        settings, clock = station.settings, _Clock()
        began, free = [], []
        with (
            Slot(settings.folders.work, "0") as slot,
            Jobs(settings.queue, "0") as connection,
            opened(settings) as sandbox,
            Worker(settings, connection, sandbox, slot, lambda: False, clock) as worker,
        ):
            for _ in range(jobs):
                began.append(time.monotonic())
                worker.serve(0)
                free.append(time.monotonic())
        _expect(station, jobs)
        order = [job for job, *_ in station.attempts()]
        own = [_own(station.results / job) for job in order]
        transfers = []
        for job in order:
            start = time.monotonic()
            deliver(station.results / job, f"again-{job}", settings.remote, lambda: None)
            transfers.append(time.monotonic() - start)
    return _Measured(
        [end - start - ran for start, end, ran in zip(began, free, own, strict=True)],
        [end - start - ran for start, end, ran in zip(began, clock.times, own, strict=True)],
        transfers,
    )


def _own(folder: Path) -> float:
    """The seconds of a runner, as it said itself."""
    began, ended = (int((folder / name).read_text()) for name in ("began", "ended"))
    return (ended - began) / 1e9


def _busy(workers: int) -> float:
    """The share of the workers' time in which their runners ran, from the first job's put."""
    with _station() as station:
        services = [station.start("worker", "--slot", f"{number}") for number in range(workers)]
        until(lambda: station.overview()["workers"] == workers)
        began = time.monotonic()
        # ended by timeout, or it kept no CPU busy
        lines = f"timeout {_LONG:g} yes >/dev/null\n[ $? = 124 ] || exit 1\n{world.GOOD}"
        jobs = _put(station, lines, _EACH, workers)
        until(lambda: station.counts()["done"] == jobs, seconds=_EACH * _LONG * 3)
        took = time.monotonic() - began
        _expect(station, jobs)
        for service in services:
            service.terminate()
            service.wait(20)
    return jobs * _LONG / (workers * took)


@contextmanager
def _station(*, far: bool = False) -> Iterator[Station]:
    with scratch() as folder, Station(folder / "station", far=far) as station:
        yield station


def _put(station: Station, lines: str, tests: int, models: int) -> int:
    """Put a job for each of so many Tests, with these runners, with each of so many Models."""
    world.program(world.item(station.items, world.DRIVER) / "runner", "true")
    names = [f"Pair_Al__MO_{number:012d}_000" for number in range(models)]
    for name in names:
        world.item(station.items, name, species=["Al"])
    jobs = []
    for number in range(tests):
        test = f"Energy_fcc_Al__TE_{number:012d}_000"
        world.make_test(station.items, lines, test)
        for model in names:
            pair = world.pair(ItemFolder(station.items), test, model)
            jobs.append(Job(job=pair.id, test=test, model=model, items=(world.DRIVER,)))
    station.add(*jobs)
    return len(jobs)


def _expect(station: Station, jobs: int) -> None:
    if len(station.delivered()) != jobs:
        raise BoxError(f"{len(station.delivered())} of {jobs} jobs have results; {station.said()}")
