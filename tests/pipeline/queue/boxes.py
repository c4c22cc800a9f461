"""What honest boxes do with a real database: a director adds jobs, a worker takes them."""

from __future__ import annotations

from kimpipeline.kim.kimid import job_id
from kimpipeline.queue.jobs import Jobs, Lease
from kimpipeline.queue.messages import Job
from kimpipeline.queue.updates import Entry, Updates
from tests.pipeline.queue.server import Server

MODEL = "Pair_Al__MO_000000000903_000"


def entry(number: int, *needs: int) -> Entry:
    test = f"Energy__TE_{number:012d}_000"
    job = Job(job=job_id(test, MODEL, []), test=test, model=MODEL)
    return Entry(job, tuple(entry(each).job.job for each in needs))


def name(number: int) -> str:
    return entry(number).job.job


def add(server: Server, *entries: Entry, priority: int = 9, user: str = "d1") -> int:
    """Submit an update, and have a director make these jobs of it."""
    server.sql("select pipeline.submit('x', %s, 'approved')", priority)
    with Updates(server.settings(user)) as updates:
        taken = updates.take(0)
        assert taken
        new = updates.add(taken, entries)
        updates.finish(taken, "said")
    return new


def worker(server: Server, user: str = "w1", slot: str = "0", ttr: int = 30) -> Jobs:
    return Jobs(server.settings(user, ttr=ttr), slot)


def take(jobs: Jobs) -> Lease:
    lease = jobs.take(5)
    assert lease
    return lease


def states(server: Server) -> dict[str, str]:
    return dict(server.sql("select id, state from pipeline.jobs"))
