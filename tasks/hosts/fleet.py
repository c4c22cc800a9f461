"""One task on all the hosts of a command line, side by side; a host that fails stops no other.

Fabric calls a task once for each host of ``-H``, and would end at the first that fails. So a
host task only enlists its host here. Fabric calls the post task, ``finish``, once, after the
last host: it does the work, and reports how each host ended.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import fabric
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.markup import escape

from deploys.errors import BoxError, one_line, plain
from tasks.desk.places import GUEST, LOGS
from tasks.desk.progress import HostProgress, bars, console, exit_on_error, exit_on_interrupt
from tasks.guests import Guest
from tasks.guests.providers import find
from tasks.hosts.connection import Host
from tasks.hosts.connection.openssh import way

# pyinfra's own rule of thumb is twenty connections a core.
_AT_ONCE = 20

Work = Callable[[Host, HostProgress], Any]
Report = Callable[[Mapping[str, Any], Collection[str]], None]


Ask = Callable[[Sequence[Host]], Work]


@dataclass
class _Enlisted:
    hosts: list[Host]
    ask: Ask
    report: Report
    locks: str

    def work_on_one(self) -> Work:
        """Ask what there is to ask; returns the work on one host, which holds the lock."""
        work = self.ask(self.hosts)

        def locked(host: Host, progress: HostProgress) -> Any:
            with host.locked(self.locks):
                return work(host, progress)

        return locked if self.locks else work


# Fabric hands nothing from a task to its post task: this does.
_enlisted: list[_Enlisted] = []


def enlist(c: Context, work: Work, report: Report, *, locks: str = "") -> None:
    """Let ``finish`` call ``work`` for the host of ``c``, and then ``report`` for all hosts.

    ``work`` gets a host and its progress, and returns the host's result. See ``enlist_asking``.
    """
    enlist_asking(c, lambda _: work, report, locks=locks)


def enlist_asking(c: Context, ask: Ask, report: Report, *, locks: str = "") -> None:
    """Like ``enlist``, where a person is asked for something first, once for all hosts.

    Args:
        c: Fabric's connection, or under ``inv`` the context of the local guest.
        ask: gets all hosts of the command line, before any work; returns the work.
        report: gets the results by host name, and the names of the hosts that failed.
        locks: the name of a task that changes or reboots hosts: no other such task may run on the
            host meanwhile. Empty: it does neither.

    Raises:
        Exit: no host is named, and no local guest runs; or the host is named twice.
    """
    with exit_on_error():
        host = host_of(c)
        # Two tasks at once on one host would undo each other's work.
        if any(host.name == other.name for each in _enlisted for other in each.hosts):
            raise BoxError(f"{host.name} is named twice")
    if not _enlisted:
        _enlisted.append(_Enlisted([], ask, report, locks))
    _enlisted[0].hosts.append(host)


def host_of(c: Context) -> Host:
    """The host that a task is called for.

    Raises:
        BoxError: no host is named, or no local guest runs; or OpenSSH cannot say how to log in.
    """
    if isinstance(c, fabric.Connection):
        return Host(c, way=way(c))
    if isinstance(c.config, fabric.Config):
        raise BoxError("no host is named: say fab -H HOST TASK")
    return guest_host()


def guest_host() -> Host:
    """The local guest as a host.

    Raises:
        BoxError: no guest runs.
    """
    guest = find(GUEST)
    if guest is None or not guest.alive:
        raise BoxError("no guest runs here: start one with inv up, or name a host: fab -H HOST")
    return connected(guest)


def connected(guest: Guest) -> Host:
    """A guest of this machine as a host, with its own key and known host key."""
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
    """Do the work of the task before on all its hosts, side by side; then report."""
    enlisted = _enlisted.pop()
    with exit_on_error():
        work = enlisted.work_on_one()
    results: dict[str, Any] = {}
    errors: dict[str, Exception] = {}
    interrupted = exit_on_interrupt("every host can still boot; run the task again to go on")
    with interrupted, bars() as frame, ThreadPoolExecutor(_AT_ONCE) as pool:
        futures: dict[Future[Any], tuple[Host, HostProgress]] = {}
        for host in enlisted.hosts:
            progress = HostProgress(host.name, frame)
            futures[pool.submit(work, host, progress)] = host, progress
        try:
            for future in as_completed(futures):
                host, progress = futures[future]
                try:
                    results[host.name] = future.result()
                    progress.done("done")
                except Exception as failure:  # of any kind: the other hosts go on
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
    # in the order of the command line, not in that of the ends
    names = [host.name for host in enlisted.hosts]
    failed = [name for name in names if name in errors]
    enlisted.report({name: results[name] for name in names if name in results}, failed)
    for name in failed:
        line = escape(_error_line(name, errors[name]))
        console.print(f"[red]error:[/] {line}", highlight=False, soft_wrap=True)
    if errors:
        raise Exit(code=1)


def _error_line(name: str, error: Exception) -> str:
    """One line for a host's error; an unforeseen one goes to a log, which the line names."""
    if isinstance(error, BoxError):
        line = str(error)
        return line if line.startswith((f"{name}:", f"{name} ")) else f"{name}: {line}"
    said = one_line((str(error).strip().splitlines() or ["no message"])[0])
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{quote(name, safe=':@')}.log"  # two names never share a file
        log.write_text(plain("".join(traceback.format_exception(error))))
        where = f"traceback: {log}"
    except OSError as fault:
        where = f"the traceback cannot be written: {fault.strerror}"
    return f"{name}: {type(error).__name__}: {said} ({where})"
