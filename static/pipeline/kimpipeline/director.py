"""The director makes jobs of updates, each once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pydantic import ValidationError

from kimpipeline.errors import ItemError, LostError, PipelineError, QueueError, TransferError
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import TESTS, quoted
from kimpipeline.queue.messages import Job
from kimpipeline.queue.report import Report
from kimpipeline.queue.transfer import mirror
from kimpipeline.queue.updates import Entry, Taken, Updates
from kimpipeline.run.matching import find_pairs, make_pair
from kimpipeline.run.pair import Pair
from kimpipeline.run.products import runnable
from kimpipeline.settings import Settings

log = logging.getLogger("pipeline-director")
_RETRY_DELAY = 30  # seconds before an update whose items could not be fetched may be taken again


class Director:
    """A director with one connection to the queue; after a QueueError it needs a new one."""

    def __init__(self, settings: Settings, queue: Updates) -> None:
        self._settings = settings
        self._queue = queue
        self._items = ItemFolder(settings.folders.items)

    def serve(self, timeout: float) -> bool:
        """Take one update; False if none comes within ``timeout`` seconds.

        Raises:
            QueueError: the connection is lost; the director cannot go on.
            TransferError: the items could not be fetched; the update stays on the queue.
        """
        taken = self._queue.take(timeout)
        if taken is None:
            return False
        try:
            self._queue.finish(taken, self._jobs_of(taken))
        except TransferError:
            self._queue.give_back(taken, _RETRY_DELAY)
            raise
        except QueueError:
            raise
        except LostError as error:  # the queue gives it out again
            log.warning("%s: %s", quoted(taken.kimid), error)
        except PipelineError as error:
            log.warning("%s: %s", quoted(taken.kimid), error)
            self._queue.fail(taken, str(error))
        return True

    def _jobs_of(self, taken: Taken) -> str:
        """Add an update's jobs to the queue; what came of it."""
        update = taken.update()
        mirror(self._items, self._settings.remote, lambda: self._queue.touch(taken))
        models = runnable(self._items, self._settings.folders)
        found = find_pairs(self._items, update.kimid, models)
        if update.status != "approved":
            said = f"{len(found.pairs)} pairs{found.missing}"
            log.info("%s is %s: %s", update.kimid, update.status, said)
            return said
        entries: dict[str, Entry] = {}
        touched = time.monotonic()
        for pair in found.pairs:
            if time.monotonic() - touched > self._settings.queue.ttr / 3:
                self._queue.touch(taken)
                touched = time.monotonic()
            try:
                entries |= self._entries(pair, ())
            except PipelineError as error:
                log.warning("%s with %s: %s", pair.test.kimid, pair.model.kimid, error)
        new = self._queue.add(taken, entries.values())
        said = f"{len(entries)} pairs, {new} new jobs{found.missing}"
        log.info("%s: %s", update.kimid, said)
        return said

    def _entries(self, pair: Pair, above: tuple[str, ...]) -> dict[str, Entry]:
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
                entries |= self._entries(needed, (*above, pair.test.kimid))
                needs.append(needed.id)
        try:
            test, model, items = pair.test.kimid, pair.model.kimid, tuple(pair.needed)
            job = Job(job=pair.id, test=test, model=model, items=items)
        except ValidationError as error:
            raise ItemError(f"no job: {error.errors()[0]['msg']}") from error
        return {**entries, pair.id: Entry(job, tuple(needs))}


def work(settings: Settings, stopped: Callable[[], bool]) -> None:
    """Run the director on one connection until ``stopped``.

    Raises:
        QueueError: the connection is lost.
    """
    with Report() as report, Updates(settings.queue) as queue:
        report.link("up")
        director = Director(settings, queue)
        while not stopped():
            director.serve(settings.queue.patience)
