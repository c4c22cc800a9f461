"""What a director asks of the queue: an update, and the jobs that come of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from kimpipeline.queue.database import Database
from kimpipeline.queue.messages import Job, Update, parse
from kimpipeline.settings import QueueSettings

_BATCH = 2000  # jobs that are added at a time: others that finish a job wait meanwhile


@dataclass(frozen=True)
class Entry:
    """A job to add, and the jobs whose results it needs."""

    job: Job
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """An update that this director has for as long as it touches it."""

    id: int
    kimid: str
    priority: int
    status: str

    def update(self) -> Update:
        """The update.

        Raises:
            MessageError: it is none.
        """
        fields = {"kimid": self.kimid, "priority": self.priority, "status": self.status}
        return parse(Update, fields)


class Updates(Database):
    """The queue as a director sees it."""

    def __init__(self, settings: QueueSettings) -> None:
        super().__init__(settings, "pipeline_updates")
        self._lease = settings.ttr

    def take(self, timeout: float) -> Taken | None:
        """The next update; None if none comes within ``timeout`` seconds."""
        rows = self.rows("take_update", self._lease)
        if not rows and self.wait(timeout):
            rows = self.rows("take_update", self._lease)
        return Taken(*rows[0]) if rows else None

    def touch(self, taken: Taken) -> None:
        """Let the lease begin anew.

        Raises:
            LostError: this director does not have it any more.
        """
        self.call("touch_update", taken.id, self._lease)

    def add(self, taken: Taken, entries: Iterable[Entry]) -> int:
        """Add the jobs that are new; how many these are.

        An entry comes after those that it needs. They are added some at a time: a fault leaves the
        first of them on the queue, where they are known when this is called again.
        """
        jobs = [
            {**entry.job.model_dump(mode="json", exclude={"given"}), "needs": entry.needs}
            for entry in entries
        ]
        new = 0
        for start in range(0, len(jobs), _BATCH):
            ((added,),) = self.rows("add_jobs", taken.id, Jsonb(jobs[start : start + _BATCH]))
            self.touch(taken)
            new += int(added)
        return new

    def finish(self, taken: Taken, said: str) -> None:
        """Tell what came of the update."""
        self.call("end_update", taken.id, said)

    def fail(self, taken: Taken, reason: str) -> None:
        """Set the update aside, with the reason."""
        self.call("fail_update", taken.id, reason)

    def give_back(self, taken: Taken, delay: float) -> None:
        """Let any director take it after ``delay`` seconds."""
        self.call("give_back_update", taken.id, delay)
