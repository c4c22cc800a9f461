"""A worker takes a job, runs it, delivers its results and reports them; it runs one at a time.

A delivery takes time but no CPU, so the next job runs meanwhile. A worker has a job by a lease,
which it renews until the job is reported: if it dies, another worker runs the job again. The second
results then replace what the first worker delivered, as both have the job's name.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

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
from kimpipeline.kim.kimid import quoted
from kimpipeline.queue.jobs import Jobs, Lease
from kimpipeline.queue.messages import LOG, Job
from kimpipeline.queue.output import tail
from kimpipeline.queue.report import Report
from kimpipeline.queue.slot import Slot
from kimpipeline.queue.transfer import deliver, fetch
from kimpipeline.run.matching import make_pair
from kimpipeline.run.pair import Outcome, run_test
from kimpipeline.run.products import driver_to_build
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.settings import Settings

log = logging.getLogger("pipeline-worker")
_RETRY_DELAY = 30  # seconds before a job that could not be finished may be taken again


class Stopped(PipelineError):  # noqa: N818 - a request, not a fault
    """The worker was told to stop."""


class Worker(AbstractContextManager["Worker"]):
    """A worker with one connection to the queue and one slot on this machine.

    The end of a ``with`` waits for the delivery in progress; after a fault it gives that up.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Jobs,
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
        self._delivery_thread = ThreadPoolExecutor(1)
        self._delivery: Future[None] | None = None
        self._delivery_job = ""
        self._given_up = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._given_up = kind is not None
        # of two faults the first is the one to report
        with self._delivery_thread, suppress(PipelineError) if kind else nullcontext():
            self.finish_delivery(lambda: None)

    def serve(self, timeout: float) -> bool:
        """Run one job, if one comes within ``timeout`` seconds, and begin to deliver its results.

        Returns:
            False if there was neither a job nor a delivery in progress.

        Raises:
            QueueError: the connection is lost; the worker cannot go on.
            SandboxError: this machine cannot run jobs; the job was given back.
            Stopped: the worker is to stop; the job was given back.
        """
        # a wait blocks the connection: do not while a delivery still needs it
        lease = self._queue.take(0 if self._delivery else timeout)
        if lease is None:
            return self.finish_delivery(self._check_stop)
        with self._give_back_on_error(lease):
            self._do_job(lease, self._beat(lease))
        return True

    def finish_delivery(self, beat: Callable[[], None]) -> bool:
        """Wait until the delivery in progress is reported; False if there is none.

        Raises:
            QueueError: the connection is lost.
            Stopped: the worker is to stop; the job was given back.
        """
        if self._delivery is None:
            return False
        while not wait([self._delivery], 1.0).done:
            beat()
        delivery, self._delivery = self._delivery, None
        delivery.result()
        return True

    @contextmanager
    def _give_back_on_error(self, lease: Lease) -> Iterator[None]:
        """Give a job back to the queue if it could not be finished."""
        try:
            yield
        except LostError as error:
            log.warning("%s: %s", quoted(lease.name), error)
        except TransferError as error:
            log.warning("%s: %s", quoted(lease.name), error)
            self._queue.give_back(lease, _RETRY_DELAY)
        except SandboxError:
            self._queue.give_back(lease, _RETRY_DELAY)
            raise
        except Stopped:
            self._queue.give_back(lease)
            raise

    def _do_job(self, lease: Lease, beat: Callable[[], None]) -> None:
        try:
            job = lease.job()
            outcome = self._run(job, beat)
        except (ItemError, MessageError) as error:
            self._fail(lease, str(error), "")
            return
        log.info("%s: %s after %.1f s", job.job, outcome.fault or "good", outcome.seconds)
        self.finish_delivery(beat)
        self._delivery_job = job.job
        self._delivery = self._delivery_thread.submit(self._deliver_and_report, lease, job, outcome)

    def _deliver_and_report(self, lease: Lease, job: Job, outcome: Outcome) -> None:
        """Deliver a job's results and report how it ended; runs on the delivery thread."""
        with self._give_back_on_error(lease):
            self._deliver(outcome, job, self._beat(lease))
            if outcome.fault:
                self._fail(lease, outcome.fault, tail(outcome.folder))
            else:
                self._succeed(lease, outcome)
        self._slot.remove(job.job)

    def _run(self, job: Job, beat: Callable[[], None]) -> Outcome:
        if self._delivery_job == job.job:  # it was lost during its delivery, and is here again
            self.finish_delivery(beat)
        pair = make_pair(self._fetch(job, beat), job.test, job.model)
        if pair.id != job.job:
            raise ItemError("the items need other items than the job names")
        delivering = self._delivery_job if self._delivery and not self._delivery.done() else ""
        folder = self._slot.folder(job.job, delivering)
        settings = self._settings
        words = (self._sandbox, settings.limits, beat, job.given, settings.folders)
        return run_test(pair, folder, *words)

    def _fetch(self, job: Job, beat: Callable[[], None]) -> ItemFolder:
        """Fetch the items of a job that this machine lacks; return these alone.

        Among them a dependency without a version is the one that the director chose.
        """
        root, remote = self._settings.folders.items, self._settings.remote
        here = ItemFolder(root, {job.test, job.model, *job.items})
        for kimid in (job.test, job.model):
            fetch(kimid, here, remote, beat)
        model = here.get(job.model)
        driver = model.spec.model_driver
        wanted = driver_to_build(model, self._settings.folders)  # else the installed Model has it
        for kimid in job.items:
            if kimid != driver or kimid == wanted:
                fetch(kimid, here, remote, beat)
        return here

    def _deliver(self, outcome: Outcome, job: Job, beat: Callable[[], None]) -> None:
        """Deliver, and try again for the time of one transfer: the run may have been a long one."""
        remote = self._settings.remote
        deadline = time.monotonic() + remote.timeout
        while True:
            try:
                deliver(outcome.folder, job.job, remote, beat)
                return
            except TransferError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("%s; will try again", error)
            pause = time.monotonic() + min(5.0, remote.timeout / 10)
            while time.monotonic() < pause:
                beat()
                threading.Event().wait(0.2)

    def _succeed(self, lease: Lease, outcome: Outcome) -> None:
        text = (outcome.folder / "results.edn").read_text()
        self._queue.finish(lease, outcome.seconds, text)
        log.info("%s: good", lease.name)
        self._report.job(failed=False)

    def _fail(self, lease: Lease, reason: str, output: str) -> None:
        self._queue.fail(lease, reason, output[-LOG:])
        log.warning("%s: %s", quoted(lease.name), quoted(reason))
        self._report.job(failed=True)

    def _beat(self, lease: Lease) -> Callable[[], None]:
        """A function that a run or a transfer calls about once a second.

        It shows the queue every third of the lease's time that the worker is alive. It raises, and
        so ends the call, when the worker is to stop or has lost the job.
        """
        every = self._settings.queue.ttr / 3
        last = time.monotonic()

        def beat() -> None:
            nonlocal last
            self._check_stop()
            if time.monotonic() - last >= every:
                self._queue.touch(lease)
                last = time.monotonic()

        return beat

    def _check_stop(self) -> None:
        if self._stopped() or self._given_up:
            raise Stopped("told to stop")


def work(settings: Settings, sandbox: Sandbox, slot: str, stopped: Callable[[], bool]) -> None:
    """Run jobs on one connection until ``stopped``, or until workers are to take no new job.

    Raises:
        QueueError: the connection is lost.
        SandboxError: this machine cannot run jobs, or another worker is in the slot.
    """
    with (
        Report() as report,
        Slot(settings.folders.work, slot) as own,
        Jobs(settings.queue, f"{platform.node()}/{slot}") as queue,
        suppress(Stopped),
    ):
        queue.enter(own.logs)
        results.properties()  # read now: it takes longer than a short job
        report.link("up")
        with Worker(settings, queue, sandbox, own, stopped, report) as worker:
            while not stopped() and not settings.folders.drain.exists():
                worker.serve(settings.queue.patience)
