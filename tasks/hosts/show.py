"""Results as a person reads them: tables on standard output."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from deploys.facts.host_state import VERDICTS
from deploys.facts.state import HostState
from deploys.facts.status import faults, mode, status
from deploys.plan.sizes import human
from tasks.desk.closed_pipe import Terminal
from tasks.hosts.provision import Provisioned
from tasks.hosts.shrink import Shrunk
from tasks.hosts.versions import Version

# So many hosts have their status in columns that can be read.
_SIDE_BY_SIDE = 3
_ENDLESS = 100_000

_COLOURS = {"good": "green", "warning": "yellow", "alarm": "bold red"}

# of the modes, those in which nothing is computed until somebody helps
_RED = ("failed", "quarantine")

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Tube:
    """A tube of the queue: its messages by state, who watches it, how many there ever were.

    ``counts``: ready, reserved, delayed, buried. ``rate``: how many are done with in a minute.
    """

    name: str
    counts: tuple[int, ...] = (0, 0, 0, 0)
    watching: int = 0
    total: int = 0
    rate: float | None = None


@dataclass(frozen=True)
class Ended:
    """A job's result on a gateway.

    ``when`` is in seconds since 1970; ``fault`` is empty if it is good.
    """

    when: float
    owner: str
    job: str
    test: str
    model: str
    fault: str
    manifest: str


def _console() -> Terminal:
    return Terminal(highlight=False)


def plans(results: Mapping[str, list[Row]], _failed: Collection[str] = ()) -> None:
    """What a provision would do to each host."""
    for name, rows in results.items():
        if not rows:
            _console().print(f"{name}: nothing would change")
            continue
        table = Table("operation", "object", "detail", title=name, title_justify="left")
        for row in rows:
            table.add_row(*map(escape, row))
        _console().print(table)


def provisioned(results: Mapping[str, Provisioned], failed: Collection[str] = ()) -> None:
    """How a provision ended on each host; why one failed is said beside."""
    if not results and not failed:
        return
    table = Table("host", "provision", "verdict", "manifest")
    for name, result in results.items():
        word = "changed" if result.changed else "nothing to change, not rebooted"
        table.add_row(name, word, verdict(result.state), result.manifest[:16])
    for name in failed:
        table.add_row(name, "[bold red]failed[/]")
    _console().print(table)
    for name, result in results.items():
        for part, why in result.left_out.items():
            _console().print(f"{name}: {part} is left out: {escape(why)}")


def reboots(results: Mapping[str, HostState], _failed: Collection[str] = ()) -> None:
    """What each host came up on."""
    for name, state in results.items():
        seconds = state.verdict.reset_seconds if state.verdict else None
        took = f", the reset took {seconds:.1f} s" if seconds else ""
        _console().print(f"{name}: {verdict(state)}{took}")


def versions(results: Mapping[str, list[Version]], _failed: Collection[str] = ()) -> None:
    """The versions that each host's golden root had."""
    for name, found in results.items():
        if not found:
            _console().print(f"{name}: no earlier version of the golden root")
            continue
        table = Table("replaced", "manifest", "commit", title=name, title_justify="left")
        for version in found:
            when = datetime.fromtimestamp(version.replaced, UTC)
            row = (f"{when:%Y-%m-%d %H:%M:%S} UTC", version.manifest[:16], version.commit[:12])
            table.add_row(*map(escape, row))
        _console().print(table)


def lines(results: Mapping[str, str]) -> None:
    """What each host said."""
    for name, line in results.items():
        print(f"{name}: {line}")


def shrunk(results: Mapping[str, Shrunk], _failed: Collection[str] = ()) -> None:
    """What each filesystem gave back, and what a local guest's disk took before and takes now."""
    table = Table("host", "filesystem", "how", "given back")
    words = {"trim": "trimmed", "zero": "filled with zeros", "reset": "left to the next reset"}
    for name, result in results.items():
        for line in result.filesystems:
            target, how, size = line.rsplit(" ", 2)
            table.add_row(name, target, words[how], human(int(size)) if int(size) else "")
    if table.rows:
        _console().print(table)
    for name, result in results.items():
        if result.disk is not None:
            before, after = map(human, result.disk)
            _console().print(f"{name}: its disk took {before} here, and takes {after}")


def owners(gateway: str, rows: Sequence[tuple[str, ...]], host_key: str) -> None:
    """Who may connect boxes to a gateway, and what a box is to see of it.

    A row is an owner's name, his key's fingerprint, when that was made, how many results he has.
    """
    key = Column("key", overflow="fold")  # no part of it may be left out
    table = Table("owner", key, "made (UTC)", "results", title=gateway, title_justify="left")
    for row in rows:
        table.add_row(*row)
    if rows:
        _console().print(table)
    # no column, which a narrow terminal would break: it is to be compared
    print(f"{gateway}: host key {host_key}")


def tube_table(gateway: str, tubes: Sequence[Tube]) -> Table:
    """A gateway's queue, within 80 columns; below it who works on it: workers watch the jobs,
    directors the updates.
    """
    numbers = ("ready", "reserved", "delayed", "buried", "ever", "done/min")
    heads = [Column(name, justify="right", overflow="fold") for name in numbers]
    name = Column("tube", no_wrap=True)
    who = {tube.name: tube.watching for tube in tubes}
    workers, directors = who.get("jobs", 0), who.get("updates", 0)
    table = Table(
        *(name, *heads),
        title=gateway,
        title_justify="left",
        caption=f"{_many(workers, 'worker')}, {_many(directors, 'director')}",
        caption_justify="left",
    )
    for tube in tubes:
        rate = "" if tube.rate is None else f"{tube.rate:.0f}"
        # what was buried waits for somebody
        states = [str(count) for count in tube.counts]
        buried = f"[red]{states[3]}[/]" if tube.counts[3] else states[3]
        table.add_row(tube.name, *states[:3], buried, str(tube.total), rate)
    return table


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def tubes(gateway: str, found: Sequence[Tube]) -> None:
    """As it is now."""
    _console().print(tube_table(gateway, found))


def results(gateway: str, found: Sequence[Ended]) -> None:
    """The newest results of a gateway, a line each, which a narrow terminal does not break."""
    if not found:
        print(f"{gateway}: there are no results")
    for each in found:
        when = datetime.fromtimestamp(each.when, UTC).strftime("%Y-%m-%d %H:%M")
        words = (when, each.owner, each.job, each.test, each.model, each.manifest[:16])
        line = " ".join((*words, f"failed: {each.fault}" if each.fault else "good"))
        # a worker wrote that: nothing of it is to move a terminal's cursor
        print("".join(letter if letter.isprintable() else "?" for letter in line))


def states(
    results: Mapping[str, HostState], failed: Collection[str] = (), *, wide: bool = False
) -> None:
    """Each host's status: a column a host while these are few, else a row, however ``wide``."""
    if not results:
        return
    if wide:
        _wide(results)
        return
    if len(results) + len(failed) > _SIDE_BY_SIDE:
        _rows(results, failed)
        return
    table = Table("", *results)
    columns = [_fields(state) for state in results.values()]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    _console().print(table)


def _rows(results: Mapping[str, HostState], failed: Collection[str]) -> None:
    """A line a host within 80 columns, and below what is wrong with each."""
    heads = ("mode", "role", "snapshot", "manifest", "faults")
    host = Column("host", overflow="fold")
    table = Table(host, *(Column(head, no_wrap=True) for head in heads), box=SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    wrong: list[str] = []
    for name, state in results.items():
        said = faults(state)
        if state.verdict and state.verdict.reason:
            said.insert(0, f"the last reset failed: {state.verdict.reason}")
        wrong += [f"{name}: {escape(fault)}" for fault in said]
        fields = _fields(state)
        is_kept = state.verdict is not None and state.verdict.name == "kept"
        table.add_row(
            name,
            fields["mode"] + (", [yellow]kept[/]" if is_kept else ""),
            fields["role"],
            fields["snapshot"].removesuffix(" full"),
            fields["manifest"][:8],
            f"[red]{len(said)}[/]" if said else "",
        )
    for name in failed:
        table.add_row(name, "[bold red]error[/]")
    _console().print(table)
    for line in wrong:
        _console().print(line, soft_wrap=True)


def _wide(results: Mapping[str, HostState]) -> None:
    """All that is known of each host, in one line, which no terminal's width breaks."""
    rows = [_fields(state) for state in results.values()]
    table = Table("host", *rows[0])
    for name, fields in zip(results, rows, strict=True):
        table.add_row(name, *(text.replace("\n", ", ") for text in fields.values()))
    console = _console()
    console.width = console.measure(table, options=console.options.update(width=_ENDLESS)).maximum
    console.print(table)


def states_json(results: Mapping[str, HostState], _failed: Collection[str] = ()) -> None:
    """Each host's status, by its name."""
    print(json.dumps({name: status(state) for name, state in results.items()}, indent=1))


def verdict(state: HostState) -> str:
    """The verdict in its colour, with the reason if it failed."""
    if state.verdict is None:
        return "not a box"
    name = state.verdict.name
    reason = f": {escape(state.verdict.reason)}" if state.verdict.reason else ""
    return f"[{_COLOURS[VERDICTS[name].kind]}]{name}[/]{reason}"


def _fields(state: HostState) -> dict[str, str]:
    percent = state.snapshot_percent
    seconds = state.verdict.reset_seconds if state.verdict else None
    reset = verdict(state) + (f" in {seconds:.1f} s" if seconds else "")
    if state.reset_at:
        reset += f", at {state.reset_at:%Y-%m-%d %H:%M:%S} UTC"
    match = "[green]match[/]" if state.initrd_matches else "[red]do not match[/]"
    provisiond = state.provisiond.get("state", "not run")
    if reason := state.provisiond.get("reason"):
        provisiond = f"{provisiond}: {escape(reason)}"
    runs_on = mode(state)
    return {
        "mode": f"[bold red]{runs_on}[/]" if runs_on in _RED else runs_on,
        "role": state.role,
        "faults": "\n".join(f"[red]{escape(fault)}[/]" for fault in faults(state)),
        "last reset": reset,
        "snapshot": "" if percent is None else f"{percent} % full",
        "firmware": "UEFI, Secure Boot" if state.secure_boot else state.firmware.upper(),
        "kernel": state.kernel,
        "kernel and initrd": match if state.is_box else "",
        "manifest": state.release.get("MANIFEST", "")[:16],
        "versions": "\n".join(f"{name} {version}" for name, version in state.versions.items()),
        "provisiond": provisiond,
        "free": "\n".join(f"{target} {human(size)}" for target, size in state.free.items()),
        "system": f"{state.os_id} {state.os_version}",
        "uptime": f"{state.uptime / 3600:.1f} h",
    }
