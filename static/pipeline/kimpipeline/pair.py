"""Run a Test with a Model: in a fresh copy, shut in; what comes of it in KIM's shape."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kimpipeline import edn, harvest, results
from kimpipeline.errors import ItemError, RunError
from kimpipeline.items import Item
from kimpipeline.kimid import job_id
from kimpipeline.provenance import provenance
from kimpipeline.sandbox import Job, Sandbox
from kimpipeline.settings import Limits
from kimpipeline.supervise import Ended, supervise
from kimpipeline.template import render

_STDIN = 2**20  # bytes of a template, and of what it gives
_STREAMS = ("pipeline.stdin", "pipeline.stdout", "pipeline.stderr", "kim.log")


@dataclass(frozen=True)
class Pair:
    """A Test, a Model, and the items that those need."""

    test: Item
    model: Item
    others: tuple[Item, ...]

    @property
    def id(self) -> str:
        """The id of its job and of its result."""
        return job_id(self.test.kimid, self.model.kimid, (each.kimid for each in self.others))

    @property
    def versions(self) -> list[str]:
        """The KIM ids of all that takes part, sorted."""
        return sorted({each.kimid for each in (self.test, self.model, *self.others)})


@dataclass(frozen=True)
class Outcome:
    """The results directory; ``fault`` is empty, or the line that says why it has no results."""

    folder: Path
    fault: str
    seconds: float


def stdin(pair: Pair) -> str:
    """``pipeline.stdin`` of a pair.

    Raises:
        ItemError: the Test has no template, or one that cannot be filled.
    """
    template = edn.read_text(pair.test.path / "pipeline.stdin.tpl", _STDIN)
    paths = {
        item.kimid: str(item.runner if item.runner.exists() else item.path) for item in pair.others
    }
    return render(template, pair.model.kimid, paths)


def run(
    pair: Pair,
    scratch: Path,
    sandbox: Sandbox,
    limits: Limits,
    beat: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run a pair; a failure of the Test is an outcome too.

    Args:
        pair: whose items lie in one repository.
        scratch: an empty folder of its own; afterwards it holds the results directory.
        sandbox: what shuts it in.
        limits: of the runner.
        beat: is called every second or so; what it raises ends the job.

    Raises:
        SandboxError: this machine could not run it.
    """
    folder, target = scratch / "test", scratch / pair.id
    target.mkdir()
    for name in _STREAMS:
        (target / name).touch()
    ended = Ended("", 0.0, 0.0, 0)
    began = time.time()
    try:
        # the items' own links stay links: the sandbox decides what they lead to
        shutil.copytree(pair.test.path, folder, symlinks=True)
        shutil.rmtree(folder / "output", ignore_errors=True)
        (folder / "output").mkdir()
        (target / "pipeline.stdin").write_text(stdin(pair))
        job = Job(("./runner",), folder, pair.test.path.parent, limits)
        with (
            (target / "pipeline.stdin").open("rb") as given,
            (target / "pipeline.stdout").open("wb") as stdout,
            (target / "pipeline.stderr").open("wb") as stderr,
        ):
            ended = supervise(sandbox, job, (given, stdout, stderr), target, beat)
        _collect(folder, target, limits.disk)
        if ended.fault:
            raise RunError(ended.fault)
        results.check(target / "results.edn", pair.test.spec.properties)
        fault = ""
    except (RunError, ItemError, shutil.Error) as error:
        fault = str(error).replace("\n", " ")
        _disown(target)
    _describe(pair, target, fault, ended, sandbox, began)
    return Outcome(target, fault, ended.seconds)


def _collect(folder: Path, target: Path, largest: int) -> None:
    output = folder / "output"
    if output.is_dir() and not output.is_symlink():
        harvest.take(output, target, largest)
    log = folder / "kim.log"  # the KIM API writes it where the program runs
    if log.is_file() and not log.is_symlink() and log.stat().st_size <= largest:
        (target / "kim.log").unlink()
        harvest.copy(log, target / "kim.log")


def _disown(target: Path) -> None:
    """A failure has no results: what was written stays to be looked at, under another name."""
    path = target / "results.edn"
    if path.exists():
        path.rename(target / "results.edn.invalid")


def _describe(
    pair: Pair, target: Path, fault: str, ended: Ended, sandbox: Sandbox, began: float
) -> None:
    """The two files that say what this directory is, and how it came about."""
    about: dict[str, object] = {
        "UUID": pair.id,
        "item-type": "er" if fault else "tr",
        "test": pair.test.kimid,
        "model": pair.model.kimid,
    }
    edn.write(target / "kimspec.edn", {**about, **({"error": fault} if fault else {})})
    profiling = {
        "time": round(ended.seconds, 3),
        "cputime": round(ended.cpu, 3),
        "maxmem": ended.memory,
        "datetime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
    }
    spec = {
        "UUID": pair.id,
        "profiling": profiling,
        "provenance": {**provenance(), "sandbox": sandbox.name, "items": pair.versions},
    }
    edn.write(target / "pipelinespec.edn", spec)
