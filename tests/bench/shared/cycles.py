"""What a job's whole cycle costs the queue's database: taken, finished, the next one woken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

from deploys.errors import BoxError
from kimpipeline.files import scratch
from kimpipeline.queue.jobs import Jobs
from kimpipeline.settings import QueueSettings
from tests.pipeline.queue.server import Server

CLIENTS = 8
_EACH, _ONE = 100, 300  # cycles of each of several clients, and of one alone
_RESULTS = "[" + "x" * 2000 + "]"
# A third waits, each for another one's results.
_FILL = """
    insert into pipeline.jobs (id, test, model, items, priority, state, missing)
    select pipeline.job_id(test, model, '{}'), test, model, '{}', 1,
        case n % 3 when 2 then 'waiting' else 'ready' end, (n % 3 = 2)::int
    from generate_series(1, %s) n, lateral (values (
        'Energy__TE_' || lpad(n::text, 12, '0') || '_000', 'Pair__MO_000000000001_000'
    )) pair (test, model);
    insert into pipeline.needs (job, needs)
    select later.id, earlier.id from pipeline.jobs later join pipeline.jobs earlier
    on earlier.number = later.number - 1 where later.state = 'waiting';
"""


@dataclass(frozen=True)
class Cycles:
    """Seconds of a cycle of one client alone, the median; cycles a second of several at once."""

    alone: float
    rate: float


def cycles(jobs: int) -> Cycles:
    """Measure with so many jobs in a database that is as durable as a gateway's.

    Raises:
        BoxError: there were not enough jobs.
    """
    with _filled(jobs) as server:
        settings = server.settings("w1")
        alone = median(_run(settings, _ONE))
        # a process each, as the workers of boxes
        with ProcessPoolExecutor(CLIENTS, get_context("fork")) as pool:
            warm = [pool.submit(_run, settings, 2) for _ in range(CLIENTS)]
            for each in warm:
                each.result()
            began = time.monotonic()
            running = [pool.submit(_run, settings, _EACH) for _ in range(CLIENTS)]
            done = sum(len(each.result()) for each in running)
            rate = done / (time.monotonic() - began)
    return Cycles(alone, rate)


def _run(settings: QueueSettings, count: int) -> list[float]:
    """The seconds of each of so many cycles."""
    took = []
    with Jobs(settings, "bench") as jobs:
        for _ in range(count):
            began = time.monotonic()
            lease = jobs.take(1)
            if lease is None:
                raise BoxError("the bench's queue has no job left")
            jobs.finish(lease, 1, _RESULTS)
            took.append(time.monotonic() - began)
    return took


def fill(server: Server, jobs: int) -> None:
    """Have so many jobs in a database that has none."""
    for statement in _FILL.split(";")[:2]:
        server.sql(statement.replace("%s", str(jobs)))


@contextmanager
def _filled(jobs: int) -> Iterator[Server]:
    with scratch() as folder:
        server = Server(folder / "db", "-cmax_wal_size=1GB")
        server.start()
        try:
            fill(server, jobs)
            for table in ("jobs", "needs", "attempts", "changes"):
                server.sql(f"vacuum analyze pipeline.{table}")
            yield server
        finally:
            server.stop()
