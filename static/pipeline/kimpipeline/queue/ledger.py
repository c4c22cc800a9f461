"""The director's record of every job that it queued: a database that outlives a reset.

A job is ``waiting`` (for the results of others), ``intended``, ``queued``, ``done`` or ``failed``.
It is intended before it is put on the queue, and queued once the queue has answered. A crash in
between leaves it intended; the director then looks on the queue what became of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from kimpipeline.errors import PipelineError
from kimpipeline.files import own_folder, remove_strange
from kimpipeline.queue.messages import Failure, Job, Result, parse

_SCHEMA = """
create table if not exists jobs (
    job text primary key,
    state text not null,
    priority integer not null,
    body text not null,      -- the message
    needs text not null,     -- the jobs whose results it waits for, as JSON
    after integer not null,  -- its id on the queue is larger than this
    result text not null default '',
    reason text not null default '',
    log text not null default ''
) strict
"""


@dataclass(frozen=True)
class Entry:
    """A job to queue: its message, its priority, and the jobs whose results it waits for."""

    job: Job
    priority: int
    needs: tuple[str, ...] = ()


class Ledger(AbstractContextManager["Ledger"]):
    """The database; ``with`` closes it."""

    def __init__(self, path: Path) -> None:
        try:
            own_folder(path.parent)
            for end in ("", "-journal", "-shm", "-wal"):  # sqlite follows links
                remove_strange(path.with_name(path.name + end))
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise PipelineError(f"{path}: {error}") from error

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def intend(self, entries: Iterable[Entry], after: int) -> int:
        """Record the jobs that are new, in one transaction, and return how many these are.

        Known jobs stay as they are.

        Args:
            entries: jobs; one that needs the results of others is waiting, any other is intended.
            after: the queue's newest id now.
        """
        rows = [
            (
                entry.job.job,
                "waiting" if entry.needs else "intended",
                entry.priority,
                entry.job.model_dump_json(),
                json.dumps(entry.needs),
                after,
            )
            for entry in entries
        ]
        return self._execute_many(
            "insert into jobs (job, state, priority, body, needs, after)"
            " values (?, ?, ?, ?, ?, ?) on conflict do nothing",
            rows,
        )

    def intended(self) -> list[tuple[Entry, int]]:
        """The jobs to put on the queue, the lowest priority first, each with its ``after``."""
        rows = self._database.execute(
            "select body, priority, after from jobs where state = 'intended'"
            " order by priority, rowid"
        )
        return [
            (Entry(parse(Job, body.encode()), priority), after) for body, priority, after in rows
        ]

    def mark_queued(self, jobs: Iterable[str]) -> None:
        """Mark intended jobs as queued; a job that is done by now stays done."""
        self._execute_many(
            "update jobs set state = 'queued' where job = ? and state = 'intended'",
            [(job,) for job in jobs],
        )

    def mark_done(self, result: Result) -> bool:
        """Record a job's result; False if the job is unknown, or had a result before."""
        changed = self._database.execute(
            "update jobs set state = 'done', result = ?, reason = '', log = ''"
            " where job = ? and state != 'done'",
            [result.results, result.job],
        )
        return changed.rowcount == 1

    def mark_failed(self, failure: Failure) -> bool:
        """Record why a job failed; False if it is unknown, has a result, or failed before."""
        changed = self._database.execute(
            "update jobs set state = 'failed', reason = ?, log = ?"
            " where job = ? and state not in ('done', 'failed')",
            [failure.reason, failure.log, failure.job],
        )
        return changed.rowcount == 1

    def intend_waiting(self, after: int) -> None:
        """Mark the waiting jobs whose needed results have come as intended, and add the results."""
        waiting = self._database.execute(
            "select job, body, needs from jobs where state = 'waiting'"
        )
        for job, body, needs in waiting.fetchall():
            given = [self._result(each) for each in json.loads(needs)]
            if None in given:
                continue
            message = parse(Job, body.encode())
            whole = message.model_copy(update={"given": dict(each for each in given if each)})
            self._database.execute(
                "update jobs set state = 'intended', body = ?, after = ? where job = ?",
                [whole.model_dump_json(), after, job],
            )

    def _result(self, job: str) -> tuple[str, str] | None:
        """A job's Test and the text of its results; None while it has none."""
        found = self._database.execute(
            "select body, result from jobs where job = ? and state = 'done'", [job]
        ).fetchone()
        return (parse(Job, found[0].encode()).test, found[1]) if found else None

    def _execute_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> int:
        """Run a statement for each row, in one transaction; returns how many rows it changed."""
        self._database.execute("begin immediate")
        try:
            changed = self._database.executemany(statement, rows).rowcount
        except BaseException:
            self._database.execute("rollback")
            raise
        self._database.execute("commit")
        return changed
