"""Prints the results of tasks for a person, on standard output."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC

from pydantic_core import to_jsonable_python
from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from deploys.errors import one_line, plain
from deploys.facts.state import HostState
from deploys.plan.sizes import human
from tasks.desk.closed_pipe import Terminal
from tasks.hosts.gateway.backups import Backup
from tasks.hosts.gateway.owners import BoxKey, Owners
from tasks.hosts.gateway.queue import Attempt, Overview
from tasks.hosts.gateway.results import JobResult, OwnerResult
from tasks.hosts.provision import Provisioned
from tasks.hosts.shrink import Shrunk
from tasks.hosts.status_tables import verdict
from tasks.hosts.versions import Version

Row = tuple[str, str, str]


def _console() -> Terminal:
    return Terminal(highlight=False)


def plans(results: Mapping[str, list[Row]], _failed: Collection[str] = ()) -> None:
    """Print what a provision would do to each host."""
    for name, rows in results.items():
        if not rows:
            _console().print(f"{escape(name)}: nothing would change")
            continue
        table = Table("operation", "object", "detail", title=escape(name), title_justify="left")
        for row in rows:
            table.add_row(*map(escape, row))
        _console().print(table)


def provisioned(results: Mapping[str, Provisioned], failed: Collection[str] = ()) -> None:
    """Print how a provision ended on each host; the fleet prints the errors."""
    if not results and not failed:
        return
    table = Table("host", "provision", "verdict", "manifest")
    for name, result in results.items():
        word = "changed" if result.changed else "nothing to change, not rebooted"
        manifest = escape(result.manifest[:16])
        table.add_row(escape(name), word, verdict(result.state), manifest)
    for name in failed:
        table.add_row(escape(name), "[bold red]failed[/]")
    _console().print(table)
    for name, result in results.items():
        for part, why in result.left_out.items():
            _console().print(escape(f"{name}: {part} is left out: {why}"))


def reboots(results: Mapping[str, HostState], _failed: Collection[str] = ()) -> None:
    """Print each host's verdict, and the time that the reset took."""
    for name, state in results.items():
        seconds = state.verdict.reset_seconds if state.verdict else None
        took = f", the reset took {seconds:.1f} s" if seconds else ""
        _console().print(f"{escape(name)}: {verdict(state)}{took}")


def versions(results: Mapping[str, list[Version]], _failed: Collection[str] = ()) -> None:
    """Print the earlier versions of each host's golden root."""
    for name, found in results.items():
        if not found:
            _console().print(f"{escape(name)}: no earlier version of the golden root")
            continue
        table = Table("replaced", "manifest", "commit", title=escape(name), title_justify="left")
        for version in found:
            when = f"{version.replaced:%Y-%m-%d %H:%M:%S} UTC"
            row = (when, version.manifest[:16], version.commit[:12])
            table.add_row(*map(escape, row))
        _console().print(table)


def lines(results: Mapping[str, str], _failed: Collection[str] = ()) -> None:
    """Print a line for each host."""
    for name, line in results.items():
        print(one_line(f"{name}: {line}"))


def shrunk(results: Mapping[str, Shrunk], _failed: Collection[str] = ()) -> None:
    """Print what each filesystem gave back, and a local guest's disk before and after."""
    table = Table("host", "filesystem", "how", "given back")
    for name, result in results.items():
        for target, how, size in result.filesystems:
            table.add_row(escape(name), escape(target), how, human(size) if size else "")
    if table.rows:
        _console().print(table)
    for name, result in results.items():
        if result.disk is not None:
            before, after = map(human, result.disk)
            _console().print(f"{escape(name)}: its disk took {before} here, and takes {after}")


def owners(gateway: str, found: Owners, name: str = "") -> None:
    """Print a gateway's owners, or only the owner ``name``, and its host key."""
    key = Column("key", overflow="fold")  # a narrow terminal must not cut it
    table = Table(
        "owner", key, "made (UTC)", "results", "used", title=escape(gateway), title_justify="left"
    )
    for each in found.owners:
        if name in ("", each.name):
            table.add_row(
                escape(each.name),
                escape(each.key),
                f"{each.made:%Y-%m-%d %H:%M}",
                str(each.results),
                f"{human(each.used)} of {human(each.quota)}" if each.quota else human(each.used),
            )
    if table.rows:
        _console().print(table)
    _boxes([box for each in found.owners if name in ("", each.name) for box in each.boxes])
    # Not in the table: a narrow terminal would break the line, and people compare the key.
    print(f"{gateway}: host key {found.host_key}")
    if found.note:
        print(f"{gateway}: {found.note}")


def _boxes(boxes: Sequence[BoxKey]) -> None:
    name = Column("box", no_wrap=True)  # whole, as revoke needs it
    table = Table(name, Column("key", overflow="fold"), "made (UTC)", "last seen (UTC)")
    for each in boxes:
        seen = f"{each.seen:%Y-%m-%d %H:%M}" if each.seen else "never"
        table.add_row(escape(each.name), escape(each.key), f"{each.made:%Y-%m-%d %H:%M}", seen)
    if table.rows:
        _console().print(table)


_STATES = ("waiting", "ready", "running", "done", "failed", "cancelled")
_MOST = 20  # lines of one kind


def queue_view(gateway: str, found: Overview) -> Group:
    """A gateway's queue within 80 columns: a table, who works on what, and what is stuck."""
    heads = [Column(name, justify="right", overflow="fold") for name in (*_STATES, "done/min")]
    who = f"{_plural(found.workers, 'worker')}, {_plural(found.directors, 'director')}"
    table = Table(
        "",
        *heads,
        title=escape(gateway),
        title_justify="left",
        caption=who,
        caption_justify="left",
    )
    updates = {**found.updates, "running": found.updates.get("taken", 0)}
    for name, counts, rate in (
        ("updates", updates, ""),
        ("jobs", found.jobs, str(found.minute.get("good", 0))),
    ):
        cells = [str(counts.get(state, 0)) for state in _STATES]
        if counts.get("failed"):  # these wait for a person
            cells[4] = f"[red]{cells[4]}[/]"
        table.add_row(name, *cells, rate)
    return Group(table, *(Text(one_line(line), overflow="fold") for line in _notes(found)))


def _notes(found: Overview) -> Iterator[str]:
    for run in found.running[:_MOST]:
        yield f"{run.box} runs {run.job} on {run.worker} for {run.seconds:.0f} s"
    for stuck in found.stuck[:_MOST]:
        yield f"{stuck.job} waits for {stuck.needs}, which is {stuck.state}: pipeline.retry"
    for update in found.failed_updates:
        yield f"no jobs of {update.kimid}: {update.why}"
    if found.alarms:
        yield f"{_plural(found.alarms, 'result')} differ from an earlier one of the same job"


def _plural(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def queue(gateway: str, found: Overview) -> None:
    """Print a gateway's queue."""
    _console().print(queue_view(gateway, found))


def backups(results: Mapping[str, Backup], _failed: Collection[str] = ()) -> None:
    """Print where each gateway's backup lies."""
    for name, made in results.items():
        print(f"{name}: {made.folder}, {human(made.size)}: keep it as secret as the gateway's disk")


def restored(results: Mapping[str, Backup], _failed: Collection[str] = ()) -> None:
    """Print which gateways have been restored, and what is left to do."""
    for name, taken in results.items():
        print(f"{name}: has all of {taken.folder}, and the old gateway's host keys")
        print("  keep them over the next reset: fab -H", name, "promote")


def as_json(found: object) -> None:
    """Print dataclasses and models as JSON, in ASCII: no terminal obeys a word of a host's."""
    print(json.dumps(to_jsonable_python(found), indent=1))


def attempts(found: Sequence[Attempt]) -> None:
    """Print each run of a job: a line, and its log, indented so that it passes for no such line."""
    for each in found:
        taken = each.taken.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        ended = f"{each.how}: {each.reason}" if each.reason else each.how or "runs"
        print(one_line(f"{taken} {_word(each.box)} {_word(each.worker)} {ended}"))
        if each.log:
            print(textwrap.indent(plain(each.log).strip("\n"), "  ", lambda _: True))


def results(gateway: str, found: Sequence[JobResult]) -> None:
    """Print the newest results of a gateway, one line each, however long."""
    if not found:
        print(f"{gateway}: there are no results")
    for each in found:
        when = each.when.strftime("%Y-%m-%d %H:%M")
        told = (each.owner, each.folder, each.test, each.model, each.manifest[:16])
        line = " ".join(
            (when, *map(_word, told), f"failed: {each.fault}" if each.fault else "good")
        )
        print(one_line(line))


def _word(text: str) -> str:
    """One word, so that none can pass for the next column."""
    return "_".join(one_line(text).split()) or "-"


def result(found: Sequence[OwnerResult]) -> None:
    """Print each result of a job, in EDN: whose it is as a comment, the text indented.

    So no text can pass for the line that names an owner, or tells that the results differ.
    """
    if len({each.results for each in found}) > 1:
        print(f"; these {len(found)} results of one job differ")
    for each in found:
        print(f"; of {each.owner}" + (f", {each.folder}" if "." in each.folder else ""))
        print(textwrap.indent(plain(each.results).strip("\n"), "  ", lambda _: True))
