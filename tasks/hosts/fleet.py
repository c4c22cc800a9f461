"""One task over all the hosts of a command line: side by side, one that fails stops no other.

Fabric calls a task once for each host of ``-H``, and would end at the first that fails. So a
host task only enlists its host here, and its post task, which Fabric calls once, after the
last, does the work and says how each went.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import fabric
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.markup import escape

from deploys.errors import BoxError
from tasks.desk.places import GUEST, LOGS
from tasks.desk.progress import HostProgress, bars, console, exit_on_error, exit_on_interrupt
from tasks.guests import Guest
from tasks.guests.providers import find
from tasks.hosts.connection import Host

# pyinfra's own rule of thumb is twenty connections a core.
_AT_ONCE = 20

Work = Callable[[Host, HostProgress], Any]
Report = Callable[[Mapping[str, Any], Collection[str]], None]


@dataclass
class _Enlisted:
    hosts: list[Host]
    work: Work
    report: Report


# Between a command line's calls of a task and its post task; Fabric hands nothing over itself.
_enlisted: list[_Enlisted] = []


def enlist(c: Context, work: Work, report: Report) -> None:
    """Have ``finish`` do ``work`` on the host of ``c``, and then ``report`` on all hosts.

    Args:
        c: Fabric's connection, or under ``inv`` the context of the local guest.
        work: is called with the host; what it returns is its result.
        report: is called with the results by the hosts' names, and the names of those that failed.

    Raises:
        Exit: there is no host.
    """
    with exit_on_error():
        host = host_of(c)
    if not _enlisted:
        _enlisted.append(_Enlisted([], work, report))
    _enlisted[0].hosts.append(host)


def host_of(c: Context) -> Host:
    """The host that a task is about.

    Raises:
        BoxError: none was named, or there is no local guest that runs.
    """
    if isinstance(c, fabric.Connection):
        return Host(c)
    if isinstance(c.config, fabric.Config):
        raise BoxError("no host was named: say fab -H HOST TASK")
    return guest_host()


def guest_host() -> Host:
    """The local guest as a host.

    Raises:
        BoxError: it does not run.
    """
    guest = find(GUEST)
    if guest is None or not guest.alive:
        raise BoxError("no guest runs here: start one with inv up, or name a host: fab -H HOST")
    return connected(guest)


def connected(guest: Guest) -> Host:
    """A guest of this machine as a host, with the key that is known of it."""
    login = guest.login
    connection = fabric.Connection(
        login.host,
        user=login.user,
        port=login.port,
        connect_kwargs={"key_filename": str(login.key), "look_for_keys": False},
    )
    return Host(connection, login.known_hosts)


@task
def finish(_c: Context) -> None:
    """Do what the task before enlisted."""
    enlisted = _enlisted.pop()
    results: dict[str, Any] = {}
    errors: dict[str, Exception] = {}
    interrupted = "the hosts boot as they are; run the task again to go on"
    with (
        exit_on_interrupt(interrupted),
        bars() as frame,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        futures: dict[Future[Any], tuple[Host, HostProgress]] = {}
        for host in enlisted.hosts:
            progress = HostProgress(host.name, frame)
            futures[pool.submit(enlisted.work, host, progress)] = host, progress
        try:
            for future in as_completed(futures):
                host, progress = futures[future]
                try:
                    results[host.name] = future.result()
                    progress.done("done")
                except Exception as failure:  # whatever it is, the other hosts go on
                    errors[host.name] = failure
                    progress.done("failed")
        except KeyboardInterrupt:
            # The threads end with their connections; each host finishes what it was doing.
            for host in enlisted.hosts:
                host.abandon()
            raise
        finally:
            for host in enlisted.hosts:
                host.close()
    # in the order of the command line, whichever ended first
    names = [host.name for host in enlisted.hosts]
    failed = [name for name in names if name in errors]
    enlisted.report({name: results[name] for name in names if name in results}, failed)
    for name in failed:
        line = escape(_error_line(name, errors[name]))
        console.print(f"[red]error:[/] {line}", highlight=False, soft_wrap=True)
    if errors:
        raise Exit(code=1)


def _error_line(name: str, error: Exception) -> str:
    """What went wrong with a host; of an error that nobody foresaw also where its trace is."""
    if isinstance(error, BoxError):
        line = str(error)
        return line if line.startswith((f"{name}:", f"{name} ")) else f"{name}: {line}"
    said = (str(error).strip().splitlines() or ["it said nothing"])[0]
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{name.replace('/', '_')}.log"
        log.write_text("".join(traceback.format_exception(error)))
        where = f"all of it: {log}"
    except OSError as fault:
        where = f"there is no log of it: {fault.strerror}"
    return f"{name}: {type(error).__name__}: {said} ({where})"
