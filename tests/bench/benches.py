"""Speed and size as the project promises them, measured on the local guest and a box's image."""

from __future__ import annotations

import json as json_module
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from deploys.errors import BoxError
from tasks.desk import shell
from tasks.desk.closed_pipe import Terminal
from tasks.desk.places import GUEST, ROOT
from tasks.desk.progress import console
from tasks.guests.qemu.accelerator import qemu_version
from tests.bench.build import build
from tests.bench.director import director
from tests.bench.package import package
from tests.bench.provision import provision
from tests.bench.queue import queue
from tests.bench.resnap import resnap
from tests.bench.root import root
from tests.bench.shared.rows import Bench, Row
from tests.bench.shrink import shrink
from tests.bench.up import up
from tests.bench.worker import worker
from tests.hosts.guest import Guest

BENCHES: Mapping[str, Bench] = {
    "build": build,
    "director": director,
    "package": package,
    "provision": provision,
    "queue": queue,
    "resnap": resnap,
    "root": root,
    "shrink": shrink,
    "up": up,
    "worker": worker,
}


@dataclass(frozen=True)
class Outcome:
    """A bench's rows, or the line that says why it has none."""

    name: str
    rows: Sequence[Row] = ()
    error: str = ""

    @property
    def good(self) -> bool:
        """It was measured, and no row misses its target."""
        return not self.error and all(row.met is not False for row in self.rows)


def main(name: str = "", json: str = "") -> int:
    """Run the bench of that name, or all, and show what was measured; the exit code.

    ``json`` is a file that the numbers are written to as well, with what they were measured on.

    Raises:
        BoxError: there is no bench of that name, or the file cannot be written.
    """
    chosen = select(name)
    about = machine()
    outcomes = [run(each) for each in chosen]
    show(outcomes)
    if json:
        try:
            Path(json).write_text(as_json(outcomes, about))
        except OSError as error:
            raise BoxError(f"{json}: {error.strerror}") from error
    for outcome in outcomes:
        if outcome.error:
            line = f"[red]error:[/] {outcome.name}: {escape(outcome.error)}"
            console.print(line, highlight=False, soft_wrap=True)
    return 0 if all(outcome.good for outcome in outcomes) else 1


def select(name: str) -> list[str]:
    """The benches that a name means; all without one.

    Raises:
        BoxError: there is none of that name.
    """
    if name and name not in BENCHES:
        [nearest] = get_close_matches(name, BENCHES, n=1, cutoff=0)
        have = ", ".join(BENCHES)
        raise BoxError(f"there is no bench {name!r}; did you mean {nearest!r}? there are {have}")
    return [name] if name else list(BENCHES)


def run(name: str) -> Outcome:
    """One bench; one that cannot be run keeps no other from running."""

    def step(text: str) -> None:
        console.print(f"bench {name}: {text}", highlight=False, soft_wrap=True)

    try:
        return Outcome(name, BENCHES[name](step))
    except BoxError as error:
        return Outcome(name, error=str(error))


def machine() -> dict[str, object]:
    """What the numbers were measured on; ``accelerator`` is the running guest's.

    Raises:
        BoxError: QEMU or git is missing.
    """
    guest = Guest.find(GUEST)
    commit = shell.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False).stdout.strip()
    changed = shell.run(["git", "status", "--porcelain"], cwd=ROOT, check=False).stdout.strip()
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "qemu": qemu_version(),
        "accelerator": guest.accelerator if guest else "",
        "commit": f"{commit or 'unknown'}{'-dirty' if changed else ''}",
    }


def as_json(outcomes: Sequence[Outcome], about: Mapping[str, object]) -> str:
    """All that was measured, for programs."""
    benches = {
        outcome.name: {
            "rows": [row.as_dict() for row in outcome.rows],
            "error": outcome.error or None,
        }
        for outcome in outcomes
    }
    return json_module.dumps({"machine": dict(about), "benches": benches}, indent=1) + "\n"


def show(outcomes: Sequence[Outcome]) -> None:
    """The table: ratios are of ours to the peer's."""
    table = Table("bench", "what", "ours", "peer", "ratio", "target", "met")
    words = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for outcome in outcomes:
        for row in outcome.rows:
            table.add_row(
                outcome.name,
                row.what,
                _quantity(row.ours, row.unit),
                "" if row.peer is None else _quantity(row.peer, row.unit),
                "" if row.ratio is None else f"{row.ratio:.3f}",
                str(row.target or ""),
                words[row.met],
            )
        if outcome.error:
            table.add_row(outcome.name, "(not measured)", "", "", "", "", words[False])
    Terminal(highlight=False).print(table)


def _quantity(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
