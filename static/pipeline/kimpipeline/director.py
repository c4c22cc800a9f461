"""The director makes jobs of updates, each once, and records how they ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError

from kimpipeline.errors import (
    ItemError,
    LostError,
    MessageError,
    PipelineError,
    QueueError,
    TransferError,
)
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import TESTS
from kimpipeline.queue.ledger import Entry, Ledger
from kimpipeline.queue.messages import (
    ERRORS,
    JOBS,
    RESULTS,
    UPDATES,
    Failure,
    Job,
    Result,
    Update,
    parse,
)
from kimpipeline.queue.queue import Queue, Reserved
from kimpipeline.queue.report import Report
from kimpipeline.queue.transfer import mirror
from kimpipeline.run.matching import find_pairs, make_pair
from kimpipeline.run.pair import Pair
from kimpipeline.run.products import runnable
from kimpipeline.settings import Settings

log = logging.getLogger("pipeline-director")


class Director:
    """A director with one connection to the queue; after a QueueError it needs a new one."""

    def __init__(self, settings: Settings, queue: Queue, ledger: Ledger) -> None:
        self._settings = settings
        self._queue = queue
        self._ledger = ledger
        self._items = ItemFolder(settings.folders.items)
        self._recovering = False

    def recover(self) -> None:
        """Queue the jobs that an earlier director intended and did not queue; none is queued twice.

        First it looks which of them are on the queue. A job that is not there was never put, or has
        ended. If it has ended, its result is on the queue, and is read before any job is put.
        """
        intended = self._ledger.intended()
        if intended:
            names = {entry.job.job for entry, _ in intended}
            newest = self._queue.newest()
            first = min(after for _, after in intended) + 1
            self._ledger.mark_queued(names & set(self._jobs_on_queue(first, newest)))
            self._recovering = True
            while self.serve(0):
                pass
            self._recovering = False
        self._queue_intended()

    def serve(self, timeout: float) -> bool:
        """Take one message; False if none comes within ``timeout`` seconds.

        Raises:
            QueueError: the connection is lost; the director cannot go on.
            TransferError: the items could not be fetched; the update stays on the queue.
        """
        reserved = self._queue.reserve(timeout)
        if reserved is None:
            return False
        try:
            self._handle(reserved)
        except (QueueError, TransferError):
            raise
        except LostError as error:  # the queue gives it out again
            log.warning("%s %d: %s", reserved.tube, reserved.id, error)
            return True
        except PipelineError as error:
            # an operator finds it there, and can kick it once the cause is mended
            log.warning("%s %d: %s", reserved.tube, reserved.id, error)
            self._queue.bury(reserved)
        else:
            self._queue.delete(reserved)
        return True

    def _handle(self, reserved: Reserved) -> None:
        if reserved.tube == UPDATES:
            self._handle_update(parse(Update, reserved.body), reserved)
        elif reserved.tube == RESULTS:
            result = parse(Result, reserved.body)
            if self._ledger.mark_done(result):
                log.info("%s is done, by %s", result.job, result.worker)
                self._ledger.intend_waiting(self._queue.newest())
                self._queue_intended()
        else:
            failure = parse(Failure, reserved.body)
            if self._ledger.mark_failed(failure):
                log.warning("%s failed: %s", failure.job, failure.reason)

    def _handle_update(self, update: Update, reserved: Reserved) -> None:
        mirror(self._items, self._settings.remote, lambda: self._queue.touch(reserved))
        models = runnable(self._items, self._settings.folders)
        found = find_pairs(self._items, update.kimid, models)
        if update.status != "approved":
            words = (update.kimid, update.status, len(found.pairs), found.missing)
            log.info("%s is %s: %d pairs%s", *words)
            return
        entries: dict[str, Entry] = {}
        for pair in found.pairs:
            try:
                entries |= self._entries(pair, update.priority, ())
            except PipelineError as error:
                log.warning("%s with %s: %s", pair.test.kimid, pair.model.kimid, error)
        new = self._ledger.intend(entries.values(), self._queue.newest())
        self._ledger.intend_waiting(self._queue.newest())
        self._queue_intended()
        log.info("%s: %d pairs, %d new jobs%s", update.kimid, len(entries), new, found.missing)

    def _entries(self, pair: Pair, priority: int, above: tuple[str, ...]) -> dict[str, Entry]:
        """A pair's job, and the jobs of the Tests whose results it needs, with the same Model.

        ``above`` has the Tests that need this one.
        """
        if pair.test.kimid in above:
            raise ItemError(f"{pair.test.kimid} needs its own results")
        entries: dict[str, Entry] = {}
        needs = []
        for other in pair.others:
            if other.kind in TESTS:
                needed = make_pair(self._items, other.kimid, pair.model.kimid)
                entries |= self._entries(needed, priority, (*above, pair.test.kimid))
                needs.append(needed.id)
        try:
            test, model, items = pair.test.kimid, pair.model.kimid, tuple(pair.needed)
            job = Job(job=pair.id, test=test, model=model, items=items)
        except ValidationError as error:
            raise ItemError(f"no job: {error.errors()[0]['msg']}") from error
        return {**entries, pair.id: Entry(job, priority, tuple(needs))}

    def _queue_intended(self) -> None:
        if self._recovering:
            return
        put = []
        try:
            for entry, _ in self._ledger.intended():
                try:
                    self._queue.put(JOBS, entry.job, entry.priority)
                except MessageError as error:
                    self._ledger.mark_failed(
                        Failure(job=entry.job.job, worker="", reason=str(error))
                    )
                    continue
                put.append(entry.job.job)
        finally:
            self._ledger.mark_queued(put)

    def _jobs_on_queue(self, first: int, newest: int) -> list[str]:
        """The jobs among the queue's messages with ids from ``first`` to before ``newest``."""
        found = []
        for identifier in range(first, newest):
            body = self._queue.peek(identifier)
            try:
                found.append(parse(Job, body or b"").job)
            except MessageError:
                continue  # gone, or another kind of message
        return found


def work(settings: Settings, stopped: Callable[[], bool]) -> None:
    """Run the director on one connection until ``stopped``.

    Raises:
        QueueError: the connection is lost.
    """
    with (
        Report() as report,
        Ledger(settings.folders.ledger) as ledger,
        Queue(settings.queue, UPDATES, RESULTS, ERRORS) as queue,
    ):
        report.link("up")
        director = Director(settings, queue, ledger)
        director.recover()
        while not stopped():
            director.serve(settings.queue.patience)
