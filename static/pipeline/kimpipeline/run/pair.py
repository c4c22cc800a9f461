"""Run a copy of a Test with a Model in a sandbox, and make a results directory in KIM's format."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

from kimpipeline.errors import ItemError, PipelineError, RunError
from kimpipeline.kim import edn, results, template
from kimpipeline.kim.items import Item
from kimpipeline.kim.kimid import job_id
from kimpipeline.kim.outside import missing
from kimpipeline.run import harvest, si
from kimpipeline.run.products import Products, copy
from kimpipeline.run.programs import run_program
from kimpipeline.run.provenance import provenance
from kimpipeline.run.sandbox.confined import Confined, Sandbox
from kimpipeline.run.supervise import Ended, supervise
from kimpipeline.settings import Folders, Limits

_NONE: Mapping[str, str] = MappingProxyType({})
_FOLDERS = Folders()
_STDIN = 2**20  # most bytes of a template, and of what it becomes where it has more than names
_FILL_SECONDS, _FILL_MEMORY = 10.0, 2**29
_RESULTS = {"TE": "tr", "VC": "vr"}  # KIM's kinds of results: test, verification; er: error
_STREAMS = ("pipeline.stdin", "pipeline.stdout", "pipeline.stderr", "kim.log")


@dataclass(frozen=True)
class Pair:
    """A Test, a Model, and the items that they need."""

    test: Item
    model: Item
    others: tuple[Item, ...]

    @property
    def id(self) -> str:
        """The id of its job and of its results."""
        return job_id(self.test.kimid, self.model.kimid, self.needed)

    @property
    def versions(self) -> list[str]:
        """The KIM ids of all items that take part, sorted."""
        return sorted({self.test.kimid, self.model.kimid, *self.needed})

    @property
    def needed(self) -> list[str]:
        """The KIM ids of what the two need, and of the driver that the Model has; sorted."""
        driver = self.model.spec.model_driver
        return sorted({*(each.kimid for each in self.others), *([driver] if driver else [])})


@dataclass(frozen=True)
class Outcome:
    """A results directory; ``fault`` is empty, or says in one line why it has no results."""

    folder: Path
    fault: str
    seconds: float


def results_folder(scratch: Path, job: str) -> Path:
    """The results directory of a job that runs in ``scratch``."""
    return scratch / job


@dataclass(frozen=True)
class Stdin:
    """What ``pipeline.stdin`` is made of: the Test's template, and what the template may use.

    ``given`` has the texts of the results that the Test needs, by their Test, and ``drivers`` the
    driver of each of these.
    """

    template: str
    names: Mapping[str, str]
    paths: Mapping[str, str]
    given: Mapping[str, str]
    drivers: Mapping[str, str]


def stdin(
    pair: Pair, given: Mapping[str, str] = _NONE, written: Mapping[str, str] = _NONE
) -> Stdin:
    """What ``pipeline.stdin`` is made of for a pair.

    Args:
        pair: its Test has the template.
        given: the texts of the results that the Test needs, by the KIM id of their Test.
        written: the paths of the files with these texts.

    Raises:
        ItemError: the Test has no template.
    """
    text = edn.read_text(pair.test.path / "pipeline.stdin.tpl", _STDIN)
    test, model = pair.test.kimid, pair.model.kimid
    names = {"MODELNAME": model, "SUBJECTNAME": model, "RUNNERNAME": test}
    names |= {"VCNAME" if pair.test.kind == "VC" else "TESTNAME": test}
    paths = {
        item.kimid: str(item.runner if item.runner.exists() else item.path) for item in pair.others
    }
    drivers = {item.kimid: item.spec.test_driver or "" for item in pair.others}
    return Stdin(text, names, {**paths, **written}, {**given}, drivers)


def _write_stdin(
    source: Stdin, folder: Path, target: Path, sandbox: Sandbox, limits: Limits
) -> None:
    """Write ``pipeline.stdin`` of a results directory.

    Raises:
        ItemError: the template cannot be filled in.
    """
    written = target / "pipeline.stdin"
    if template.is_simple(source.template):
        written.write_text(template.render(source.template, source.names, source.paths))
        return
    least = {
        "seconds": min(limits.seconds, _FILL_SECONDS),
        "memory": min(limits.memory, _FILL_MEMORY),
        "disk": min(limits.disk, _STDIN),
    }
    small = limits.model_copy(update=least)
    complaints = target / "pipeline.stderr"
    with tempfile.TemporaryFile() as asked:
        asked.write(json.dumps(asdict(source)).encode())
        asked.seek(0)
        with written.open("wb") as filled:
            files = (asked, filled)
            fault = run_program("fill", (), folder, files, complaints, sandbox, small)
    if fault:
        written.write_bytes(b"")
        complaints.write_bytes(b"")
        raise ItemError(f"pipeline.stdin.tpl: {fault}")


def run_test(
    pair: Pair,
    scratch: Path,
    sandbox: Sandbox,
    limits: Limits,
    beat: Callable[[], None] = lambda: None,
    given: Mapping[str, str] = _NONE,
    folders: Folders = _FOLDERS,
) -> Outcome:
    """Run a pair; a failure of the Test is an outcome too.

    Args:
        pair: its items are in one folder.
        scratch: an empty folder for this run; the results directory is made there.
        sandbox: runs the job.
        limits: limits of the job.
        beat: called about once a second; what it raises ends the job.
        given: the text of the results that the Test needs, by the KIM id of their Test.
        folders: where the KIM API's models are, and where what was built is kept.

    Raises:
        SandboxError: this machine could not run it.
    """
    target = results_folder(scratch, pair.id)
    target.mkdir()
    for name in _STREAMS:
        (target / name).touch()
    ended = Ended("", 0.0, 0.0)
    began = time.time()
    digests: Mapping[str, str] = {}
    try:
        products = Products(folders, scratch, sandbox, limits)
        complaints = target / "pipeline.stderr"
        ready = products.ready(pair.test, pair.model, pair.others, complaints, beat)
        digests = ready.digests
        runs = replace(pair, test=ready.test, others=ready.others)
        own = _own_properties(runs)
        folder = sandbox.room(scratch)
        copy(runs.test, folder)
        _make_empty(folder / "output")
        before = _write_dependencies(given, folder / "dependencies") if given else {}
        _write_stdin(stdin(runs, given, before), folder, target, sandbox, limits)
        variables = {**ready.variables, **own.variables}
        items = pair.test.path.parent
        job = Confined(("./runner",), folder, items, limits, ready.shown, variables)
        with (
            (target / "pipeline.stdin").open("rb") as fed,
            (target / "pipeline.stdout").open("wb") as stdout,
            (target / "pipeline.stderr").open("wb") as stderr,
        ):
            ended = supervise(sandbox, job, (fed, stdout, stderr), target, beat)
        try:
            harvest.collect(folder, target, sandbox.user, limits.disk)
        except RunError:
            if not ended.fault:  # else report that fault, which came first
                raise
        if ended.fault:
            lacks = missing([runs.test, *runs.others]) if ended.fault.startswith("failed") else ""
            raise RunError(f"{ended.fault}: {lacks}" if lacks else ended.fault)
        path = target / "results.edn"
        content = results.check(path, pair.test.spec.properties, own.definitions)
        edn.write(path, si.add(content, scratch, sandbox, limits))
        fault = ""
    except (RunError, ItemError, OSError, ValueError, RecursionError) as error:
        fault = _line(error)
        _set_results_aside(target)
    _write_metadata(pair, target, fault, ended, sandbox, began, digests)
    return Outcome(target, fault, ended.seconds)


def _line(error: Exception) -> str:
    """What went wrong, in one line; whatever a Test leaves is a fault of that Test alone."""
    known = isinstance(error, PipelineError)
    text = str(error) if known else f"its files cannot be used: {type(error).__name__}"
    return "".join(each if each.isprintable() else " " for each in text)


@dataclass(frozen=True)
class _Own:
    """The definitions of properties that the items of a pair bring, and how programs find them."""

    definitions: Mapping[str, object]
    variables: Mapping[str, str]


def _own_properties(pair: Pair) -> _Own:
    items = [pair.test, *pair.others]
    found = {name: each for item in items for name, each in results.definitions(item.path).items()}
    places = [f"{item.path / name}/**" for item in items for name in results.OWN] if found else []
    return _Own(found, {"KIM_PROPERTY_PATH": ":".join(places)} if found else {})


def _make_empty(folder: Path) -> None:
    """Make an empty folder in place of what a Test's author put there, even of a link."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)
    folder.mkdir()


def _write_dependencies(given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write the results that a Test needs as files; return their paths."""
    _make_empty(folder)
    for kimid, text in given.items():
        if not text:
            raise ItemError(f"the results of {kimid} are too long for another Test")
        (folder / f"{kimid}.edn").write_text(text)
    return {kimid: str(folder / f"{kimid}.edn") for kimid in given}


def move_results(outcome: Outcome, target: Path) -> None:
    """Move a results directory to its final place.

    Raises:
        OSError: it cannot be moved there.
    """
    shutil.move(outcome.folder, target)


def _set_results_aside(target: Path) -> None:
    """Rename the results of a job that failed: they can be read, but are not results."""
    path = target / "results.edn"
    if path.exists():
        path.rename(target / "results.edn.invalid")


def _write_metadata(
    pair: Pair,
    target: Path,
    fault: str,
    ended: Ended,
    sandbox: Sandbox,
    began: float,
    digests: Mapping[str, str],
) -> None:
    """Write the two files that say what a results directory is and how it came about."""
    about: dict[str, object] = {
        "UUID": pair.id,
        "item-type": "er" if fault else _RESULTS[pair.test.kind],
        "test": pair.test.kimid,
        "model": pair.model.kimid,
    }
    edn.write(target / "kimspec.edn", {**about, **({"error": fault} if fault else {})})
    profiling = {
        "time": round(ended.seconds, 3),
        "cputime": round(ended.cpu, 3),
        "datetime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
    }
    spec = {
        "UUID": pair.id,
        "profiling": profiling,
        "provenance": {
            **provenance(),
            "sandbox": sandbox.name,
            "items": pair.versions,
            **({"built": dict(digests)} if digests else {}),
        },
    }
    edn.write(target / "pipelinespec.edn", spec)
