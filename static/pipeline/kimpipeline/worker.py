"""A worker: takes a job, runs it, delivers what came of it, says so; runs one at a time.

A delivery takes as long as the way to the gateway, and keeps no processor busy: the next job runs
meanwhile. A job stays on the queue until it is reported, so one whose worker is gone is another's.
Then it runs again, and its results, named by the job, take the place of what the first delivered.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from typing import Self

from kimpipeline.errors import (
    ItemError,
    LostError,
    MessageError,
    PipelineError,
    SandboxError,
    TransferError,
)
from kimpipeline.kim import results
from kimpipeline.kim.items import ItemFolder
from kimpipeline.queue.messages import ERRORS, JOBS, LOG, RESULTS, Failure, Job, Result, parse
from kimpipeline.queue.output import tail
from kimpipeline.queue.queue import Queue, Reserved
from kimpipeline.queue.report import Report
from kimpipeline.queue.slot import Slot
from kimpipeline.queue.transfer import deliver, fetch
from kimpipeline.run.confined import Sandbox
from kimpipeline.run.matching import make_pair
from kimpipeline.run.pair import Outcome, run_test
from kimpipeline.settings import Settings

log = logging.getLogger("pipeline-worker")
_AGAIN = 30  # seconds until a job that this machine could not serve may be taken again


class Stopped(PipelineError):  # noqa: N818 - what was asked for; not a fault
    """The worker was told to stop."""


class Worker:
    """Works on one connection, in one slot of this machine.

    At the end of a ``with`` what is on its way has arrived; or, after a fault, is given up.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        sandbox: Sandbox,
        slot: Slot,
        stopped: Callable[[], bool],
        report: Report | None = None,
    ) -> None:
        self._report = report or Report()
        self._settings = settings
        self._queue = queue
        self._sandbox = sandbox
        self._slot = slot
        self._stopped = stopped
        self._items = ItemFolder(settings.folders.items)
        self._name = f"{platform.node()}/{slot.name}"
        self._delivery_thread = ThreadPoolExecutor(1)
        self._delivery: Future[None] | None = None
        self._delivery_job = ""
        self._given_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._given_up = kind is not None
        # of two faults the first is told
        with self._delivery_thread, suppress(PipelineError) if kind else nullcontext():
            self.finish_delivery(lambda: None)

    def serve(self, timeout: float) -> bool:
        """Take one job, if one is there within ``timeout`` seconds; run it, send what comes of it.

        Raises:
            QueueError: the connection is of no use any more.
            SandboxError: this machine cannot run jobs; the job was given back.
            Stopped: likewise, as the worker is to stop.
        """
        # who waits for a job keeps the connection from the one that is on its way
        reserved = self._queue.reserve(0 if self._delivery else timeout)
        if reserved is None:
            return self.finish_delivery(self._check_stop)
        with self._give_back_on_error(reserved):
            self._do_job(reserved, self._beat(reserved))
        return True

    def finish_delivery(self, beat: Callable[[], None]) -> bool:
        """Wait until the results that are on their way are reported; False if there are none.

        Raises:
            QueueError: they are not; so, too, Stopped.
        """
        if self._delivery is None:
            return False
        while not wait([self._delivery], 1.0).done:
            beat()
        delivery, self._delivery = self._delivery, None
        delivery.result()
        return True

    @contextmanager
    def _give_back_on_error(self, reserved: Reserved) -> Iterator[None]:
        """Give a job back that could not be seen through."""
        try:
            yield
        except LostError as error:
            log.warning("%d: %s", reserved.id, error)
        except TransferError as error:
            log.warning("%d: %s", reserved.id, error)
            self._queue.release(reserved, _AGAIN)
        except SandboxError:
            self._queue.release(reserved, _AGAIN)
            raise
        except Stopped:
            self._queue.release(reserved)
            raise

    def _do_job(self, reserved: Reserved, beat: Callable[[], None]) -> None:
        try:
            job = parse(Job, reserved.body)
        except MessageError as error:
            # there is no job to name, so no word of it but this: it stays, buried
            log.warning("%s %d: %s", reserved.tube, reserved.id, error)
            self._queue.bury(reserved)
            return
        lives = self._settings.queue.lives
        if reserved.deaths >= lives * (1 + reserved.buries):  # a kick gives it new ones
            reason = f"it ended its worker {reserved.deaths} times"
            self._fail(reserved, job, reason, self._slot.saved_log(job.job))
            return
        try:
            outcome = self._run(job, beat)
        except ItemError as error:
            self._fail(reserved, job, str(error), "")
            return
        log.info("%s: %s after %.1f s", job.job, outcome.fault or "good", outcome.seconds)
        self.finish_delivery(beat)
        self._delivery_job = job.job
        self._delivery = self._delivery_thread.submit(
            self._deliver_and_report, reserved, job, outcome
        )

    def _deliver_and_report(self, reserved: Reserved, job: Job, outcome: Outcome) -> None:
        """Deliver and report; on a thread of its own."""
        with self._give_back_on_error(reserved):
            self._deliver(outcome, job, self._beat(reserved))
            if outcome.fault:
                self._fail(reserved, job, outcome.fault, tail(outcome.folder))
            else:
                self._succeed(reserved, job, outcome)
        self._slot.remove(job.job)

    def _run(self, job: Job, beat: Callable[[], None]) -> Outcome:
        if self._delivery_job == job.job:  # it was lost on its way, and comes again
            self.finish_delivery(beat)
        for kimid in (job.test, job.model, *job.items):
            fetch(kimid, self._items, self._settings.remote, beat)
        pair = make_pair(self._items, job.test, job.model)
        if pair.id != job.job:
            raise ItemError("the items need others than the job says")
        on_its_way = self._delivery_job if self._delivery and not self._delivery.done() else ""
        folder = self._slot.folder(job.job, on_its_way)
        return run_test(pair, folder, self._sandbox, self._settings.limits, beat, job.given)

    def _deliver(self, outcome: Outcome, job: Job, beat: Callable[[], None]) -> None:
        """Try until it succeeds, for as long as one transfer may take: a run may have been long."""
        remote = self._settings.remote
        deadline = time.monotonic() + remote.timeout
        while True:
            try:
                deliver(outcome.folder, job.job, remote, beat)
                return
            except TransferError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("%s; again in a moment", error)
            pause = time.monotonic() + min(5.0, remote.timeout / 10)
            while time.monotonic() < pause:
                beat()
                threading.Event().wait(0.2)

    def _succeed(self, reserved: Reserved, job: Job, outcome: Outcome) -> None:
        text = (outcome.folder / "results.edn").read_text()
        result = Result(job=job.job, worker=self._name, seconds=outcome.seconds, results=text)
        try:
            self._queue.put(RESULTS, result)
        except MessageError:  # they are too long to be told; they are delivered
            self._queue.put(RESULTS, result.model_copy(update={"results": ""}))
        self._queue.delete(reserved)
        self._report.job(f"{job.job}: good", failed=False)

    def _fail(self, reserved: Reserved, job: Job, reason: str, output: str) -> None:
        failure = Failure(job=job.job, worker=self._name, reason=reason[:2000], log=output[-LOG:])
        self._queue.put(ERRORS, failure)
        self._queue.bury(reserved)
        self._report.job(f"{job.job}: {reason}", failed=True)

    def _beat(self, reserved: Reserved) -> Callable[[], None]:
        """What is to be called now and then: a sign of life every third of the time to run."""
        every = self._settings.queue.ttr / 3
        last = time.monotonic()

        def beat() -> None:
            nonlocal last
            self._check_stop()
            if time.monotonic() - last >= every:
                self._queue.touch(reserved)
                last = time.monotonic()

        return beat

    def _check_stop(self) -> None:
        if self._stopped() or self._given_up:
            raise Stopped("told to stop")


def work(settings: Settings, sandbox: Sandbox, slot: str, stopped: Callable[[], bool]) -> None:
    """Work until ``stopped``, on one connection; or until the job is done after which none is taken
    as the box is to be reset.

    Raises:
        QueueError: the connection is lost.
        SandboxError: this machine cannot run jobs, or another worker is in the slot.
    """
    with (
        Report() as report,
        Slot(settings.folders.work, slot) as own,
        Queue(settings.queue, JOBS) as queue,
        suppress(Stopped),
    ):
        results.properties()  # takes longer than a short job
        report.link("up")
        with Worker(settings, queue, sandbox, own, stopped, report) as worker:
            while not stopped() and not settings.folders.drain.exists():
                worker.serve(settings.queue.patience)
