"""Prints the status of hosts on standard output: tables, or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from deploys.facts.host_state import VERDICTS
from deploys.facts.state import HostState
from deploys.facts.status import faults, mode, status
from deploys.plan.sizes import human
from tasks.desk.closed_pipe import Terminal

# Up to so many hosts, a column for each is still readable.
_SIDE_BY_SIDE = 3
_ENDLESS = 100_000  # columns

_COLOURS = {"good": "green", "warning": "yellow", "alarm": "bold red"}

# In these modes a box computes nothing until a person helps.
_RED = ("failed", "quarantine")


def tables(
    results: Mapping[str, HostState], failed: Collection[str] = (), *, wide: bool = False
) -> None:
    """Print the status: a column for each host; a row if there are many, or if ``wide``."""
    if not results:
        return
    if wide:
        _wide(results)
        return
    if len(results) + len(failed) > _SIDE_BY_SIDE:
        _rows(results, failed)
        return
    table = Table("", *map(escape, results))
    columns = [_fields(state) for state in results.values()]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    Terminal(highlight=False).print(table)


def _rows(results: Mapping[str, HostState], failed: Collection[str]) -> None:
    """Print a row for each host, within 80 columns, and their faults below."""
    heads = ("mode", "role", "snapshot", "manifest", "faults")
    host = Column("host", overflow="fold")
    table = Table(host, *(Column(head, no_wrap=True) for head in heads), box=SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    wrong: list[str] = []
    for name, state in results.items():
        found = faults(state)
        if state.verdict and state.verdict.reason:
            found.insert(0, f"the last reset failed: {state.verdict.reason}")
        wrong += [escape(f"{name}: {fault}") for fault in found]
        fields = _fields(state)
        is_kept = state.verdict is not None and state.verdict.name == "kept"
        table.add_row(
            escape(name),
            fields["mode"] + (", [yellow]kept[/]" if is_kept else ""),
            fields["role"],
            fields["snapshot"].removesuffix(" full"),
            escape(state.release.get("MANIFEST", "")[:8]),
            f"[red]{len(found)}[/]" if found else "",
        )
    for name in failed:
        table.add_row(escape(name), "[bold red]error[/]")
    Terminal(highlight=False).print(table)
    for line in wrong:
        Terminal(highlight=False).print(line, soft_wrap=True)


def _wide(results: Mapping[str, HostState]) -> None:
    """Print a row with all fields for each host, however narrow the terminal."""
    rows = [_fields(state) for state in results.values()]
    table = Table("host", *rows[0])
    for name, fields in zip(results, rows, strict=True):
        table.add_row(escape(name), *(text.replace("\n", ", ") for text in fields.values()))
    console = Terminal(highlight=False)
    console.width = console.measure(table, options=console.options.update(width=_ENDLESS)).maximum
    console.print(table)


def as_json(results: Mapping[str, HostState], _failed: Collection[str] = ()) -> None:
    """Print the status as JSON, by host name."""
    print(json.dumps({name: status(state) for name, state in results.items()}, indent=1))


def verdict(state: HostState) -> str:
    """The verdict in its colour, with its reason if there is one."""
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
        provisiond = f"{provisiond}: {reason}"
    versions = (f"{name} {version}" for name, version in state.versions.items())
    runs_on = mode(state)
    return {
        "mode": f"[bold red]{runs_on}[/]" if runs_on in _RED else runs_on,
        "role": escape(state.role),
        "faults": "\n".join(f"[red]{escape(fault)}[/]" for fault in faults(state)),
        "last reset": reset,
        "snapshot": "" if percent is None else f"{percent} % full",
        "firmware": "UEFI, Secure Boot" if state.secure_boot else state.firmware.upper(),
        "kernel": escape(state.kernel),
        "kernel and initrd": match if state.is_box else "",
        "manifest": escape(state.release.get("MANIFEST", "")[:16]),
        "versions": escape("\n".join(versions)),
        "provisiond": escape(provisiond),
        "free": "\n".join(f"{escape(target)} {human(size)}" for target, size in state.free.items()),
        "system": escape(f"{state.os_id} {state.os_version}"),
        "uptime": f"{state.uptime / 3600:.1f} h",
    }
