"""What a worker asks of the queue: a job, and what becomes of it. One connection is one worker."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from kimpipeline.queue.database import Database
from kimpipeline.queue.messages import Job, parse
from kimpipeline.settings import QueueSettings

MOST = 1_000_000  # bytes of results that are kept in the database for other jobs
_PAUSE = 1.0  # seconds between two questions, however often something is notified
_POLL = 10.0  # seconds after which an idle worker asks again though nothing was notified


@dataclass(frozen=True)
class Lease:
    """One attempt of a job, which this worker has for as long as it touches it."""

    attempt: int
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.fields["job"])

    def job(self) -> Job:
        """The job.

        Raises:
            MessageError: a director made it, and it is none.
        """
        return parse(Job, self.fields)


class Jobs(Database):
    """The queue as a worker sees it."""

    def __init__(self, settings: QueueSettings, worker: str) -> None:
        super().__init__(settings, "pipeline_jobs")
        self._worker = worker
        self._lease = settings.ttr
        self._poll = min(_POLL, settings.ttr / 3)
        self._asked = 0.0
        self._heard = True

    def enter(self, logs: Mapping[str, str]) -> None:
        """Tell that this worker starts and has lost what it had; ``logs`` are their ends."""
        self.call("enter", self._worker, Jsonb(dict(logs)))

    def take(self, timeout: float) -> Lease | None:
        """The next job; None if none comes within ``timeout`` seconds."""
        found = None
        if self._heard or time.monotonic() - self._asked >= self._poll:
            found = self._ask()
        if found is None and self.wait(timeout):
            pause = min(timeout, self._asked + _PAUSE - time.monotonic())
            threading.Event().wait(max(0.0, pause))
            found = self._ask()
        return found

    def _ask(self) -> Lease | None:
        rows = self.rows("take", self._worker, self._lease)
        self._asked = time.monotonic()
        self._heard = bool(rows)  # there may be more
        if not rows:
            return None
        attempt, *values = rows[0]
        names = ("job", "test", "model", "items", "given")
        return Lease(attempt, dict(zip(names, values, strict=True)))

    def touch(self, lease: Lease) -> None:
        """Let the lease begin anew.

        Raises:
            LostError: this worker does not have it any more.
        """
        self.call("touch", lease.attempt, self._lease)

    def finish(self, lease: Lease, seconds: float, results: str) -> None:
        """Report that the results are delivered; those that are too long are not kept here."""
        content = results.encode()
        kept = results if len(content) <= MOST else None
        self.call("finish", lease.attempt, seconds, kept, hashlib.sha256(content).hexdigest())

    def fail(self, lease: Lease, reason: str, log: str) -> None:
        """Report that the job failed; it is not run again by itself."""
        self.call("fail", lease.attempt, _storable(reason), _storable(log))

    def give_back(self, lease: Lease, delay: float = 0) -> None:
        """Let any worker take the job after ``delay`` seconds."""
        self.call("give_back", lease.attempt, delay)


def _storable(text: str) -> str:
    """Without what PostgreSQL takes in no text."""
    return text.replace("\0", "?").encode(errors="replace").decode()
