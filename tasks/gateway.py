"""The tasks on a gateway: the owners of boxes, the queue and the results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task
from rich.live import Live

from deploys.errors import BoxError
from tasks.desk.progress import HostProgress, console, exit_on_error
from tasks.hosts import show
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_gateway
from tasks.hosts.fleet import Work, enlist, enlist_asking, finish, host_of
from tasks.hosts.gateway import owners
from tasks.hosts.gateway import queue as job_queue
from tasks.hosts.gateway import results as job_results
from tasks.hosts.gateway.backups import Backup, back_up, require_whole, restore
from tasks.hosts.gateway.owners import Owners, checked_box, checked_name, read_owners, read_password

_EVERY = 2.0  # seconds between two looks at the queue
_JSON = "Print it as JSON, for programs."


@task(
    post=[finish],
    help={
        "name": "Name of the account.",
        "force": "Give an account that exists a new password and a new key.",
        "password-fd": "Read the password from this open file instead of asking for it.",
    },
)
def adduser(c: Context, name: str, force: bool = False, password_fd: int = -1) -> None:
    """On a gateway: make an account for an owner of boxes, and a key for these boxes."""
    with exit_on_error():
        checked_name(name)

    def ask(_: Sequence[Host]) -> Work:
        password = read_password(name, password_fd)

        def work(host: Host, progress: HostProgress) -> Owners:
            progress.step("looking at the gateway")
            read_owners(host)
            progress.step("making the account")
            owners.add(host, name, password, force=force)
            return read_owners(host)

        return work

    enlist_asking(c, ask, partial(_report, name=name))


@task(post=[finish], help={"name": "Name of the account."})
def deluser(c: Context, name: str) -> None:
    """On a gateway: end an owner's access at once; the results stay."""
    with exit_on_error():
        checked_name(name)

    def work(host: Host, progress: HostProgress) -> Owners:
        progress.step("looking at the gateway")
        read_owners(host)
        progress.step("removing the account")
        note = owners.remove(host, name)
        return replace(read_owners(host), note=note)

    enlist(c, work, _report)


@task(post=[finish], help={"box": "The box, OWNER.BOX, as users shows it."})
def revoke(c: Context, box: str) -> None:
    """On a gateway: end the access of one box at once; its owner's other boxes go on."""
    with exit_on_error():
        checked_box(box)

    def work(host: Host, progress: HostProgress) -> Owners:
        progress.step("looking at the gateway")
        read_owners(host)
        progress.step("ending its access")
        owners.revoke(host, box)
        return read_owners(host)

    enlist(c, work, _report)


@task(post=[finish], help={"json": _JSON})
def users(c: Context, json: bool = False) -> None:
    """On a gateway: show who has an account and which boxes, and the gateway's host key."""

    def work(host: Host, progress: HostProgress) -> Owners:
        progress.step("asking")
        return read_owners(host)

    enlist(c, work, (lambda found, _failed: show.as_json(found)) if json else _report)


@task(
    help={
        "item": "KIM id of a Test, a Model or a driver; all its pairs will run.",
        "priority": "A number; the lowest runs first.",
        "status": "approved, if not given; pending only has the director log the number of pairs.",
        "json": _JSON,
    }
)
def submit(
    c: Context, item: str, priority: int = 2**16, status: str = "approved", json: bool = False
) -> None:
    """On a gateway: run all pairs that an item takes part in."""
    with _gateway(c) as host:
        update = job_queue.update(item, priority, status)
        done = job_queue.submit(host, update)
        if json:
            show.as_json({**update.model_dump(), "with_results": done})
            return
        note = f"; {done} of its pairs have results, and run again only in other versions"
        print(f"{host.name}: {update.kimid} is on the queue{note if done else ''}")


@task(help={"once": "Show the queue once, and end.", "json": f"{_JSON[:-1]}, and end."})
def queue(c: Context, once: bool = False, json: bool = False) -> None:
    """On a gateway: show what waits, who works on what, what is stuck and why, until Ctrl-C."""
    with _gateway(c) as host:
        found = job_queue.overview(host)
        if json:
            show.as_json(found)
        elif once or not console.is_terminal:
            show.queue(host.name, found)
        else:
            with contextlib.suppress(KeyboardInterrupt), Live(console=console) as live:
                while True:
                    live.update(show.queue_view(host.name, found), refresh=True)
                    time.sleep(_EVERY)  # it waits for nothing: it is drawn at fixed times
                    found = job_queue.overview(host)


@task(
    help={
        "jobs": "Run these jobs again: their ids, with commas between.",
        "failed": "Run all jobs again that failed.",
        "json": _JSON,
    }
)
def retry(c: Context, jobs: str = "", failed: bool = False, json: bool = False) -> None:
    """On a gateway: run jobs again that ended; a second result stands beside the first."""
    with exit_on_error():
        if bool(jobs) == failed:
            raise BoxError("say --jobs JOB,... or --failed")
    with _gateway(c) as host:
        _changed(host, job_queue.retry(host, _words(jobs)), "run again", json=json)


@task(help={"jobs": "The jobs' ids, with commas between.", "json": _JSON})
def cancel(c: Context, jobs: str, json: bool = False) -> None:
    """On a gateway: end jobs that wait or run."""
    with _gateway(c) as host:
        _changed(host, job_queue.cancel(host, _words(jobs)), "are cancelled", json=json)


@task(help={"job": "The job's id.", "json": _JSON})
def log(c: Context, job: str, json: bool = False) -> None:
    """On a gateway: show who ran a job, how each run ended, and the end of its log."""
    with _gateway(c) as host:
        found = job_queue.attempts(host, job)
        if json:
            show.as_json(found)
        else:
            show.attempts(found)


@task(
    help={
        "job": "Show the result of this job.",
        "most": "List at most so many; without it, 20.",
        "json": _JSON,
    }
)
def results(c: Context, job: str = "", most: int = 20, json: bool = False) -> None:
    """On a gateway: list the newest results, or show one."""
    with _gateway(c) as host:
        if job:
            found = job_results.read_result(host, job)
            show.as_json(found) if json else show.result(found)
        else:
            listed = job_results.newest_results(host, most)
            show.as_json(listed) if json else show.results(host.name, listed)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _changed(host: Host, jobs: int, become: str, *, json: bool) -> None:
    """Tell of how many jobs this became of."""
    if json:
        show.as_json({"jobs": jobs})
    else:
        print(f"{host.name}: {jobs} jobs {become}")


@task(
    post=[finish],
    help={"to": "Folder on this machine that gets the backup, as a new folder of its own."},
)
def backup(c: Context, to: str) -> None:
    """On a gateway: copy database, accounts, items and results to this machine, while it works."""

    def work(host: Host, progress: HostProgress) -> Backup:
        return back_up(host, Path(to), progress)

    enlist(c, work, show.backups)


@task(
    name="restore",
    post=[finish],
    help={"from": "The backup: a folder that backup made, or that you copied whole."},
)
def restore_gateway(c: Context, from_: str) -> None:
    """On a new gateway: take in what a backup has; it refuses one with accounts or jobs."""

    def ask(_: Sequence[Host]) -> Work:
        require_whole(Path(from_))
        return lambda host, progress: restore(host, Path(from_), progress)

    enlist_asking(c, ask, show.restored, locks="restore")


@contextlib.contextmanager
def _gateway(c: Context) -> Iterator[Host]:
    """Open a task's host, which must be a gateway; an error becomes one line."""
    with exit_on_error():
        host = host_of(c)
        try:
            expect_gateway(host, host.state())
            yield host
        finally:
            host.close()


def _report(results: Mapping[str, Owners], _failed: Collection[str], name: str = "") -> None:
    """Show all owners, or only the owner ``name``."""
    for gateway, found in results.items():
        show.owners(gateway, found, name)
