"""The commands that people type on a box, and the two services."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from kimpipeline import director as directing
from kimpipeline import worker as working
from kimpipeline.errors import PipelineError
from kimpipeline.files import scratch
from kimpipeline.kim import collection
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import MODELS, TESTS, quoted
from kimpipeline.run.generate import tests_of
from kimpipeline.run.matching import find_pairs, make_pair
from kimpipeline.run.pair import Pair, move_results, run_test
from kimpipeline.run.products import Products, runnable
from kimpipeline.run.sandbox import opened
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.run.supervise import probe
from kimpipeline.run.verify import Build, faults
from kimpipeline.settings import Settings, load

_NAME = "KIM id, or a part of it with * and ?; without a version the newest is taken"
FAULT, FAILED = 1, 2  # exit codes: the command could not do its work; a Test or an item is bad


def run_pair(argv: Sequence[str] | None = None) -> int:
    """``pipeline-run-pair``: one Test with one Model."""
    parser = _parser("pipeline-run-pair", "Run a Test with a Model.")
    parser.add_argument("test", metavar="TEST", help=f"the Test's {_NAME}")
    parser.add_argument("model", metavar="MODEL", help=f"the Model's {_NAME}")
    _add_out(parser)

    def do(args: argparse.Namespace, settings: Settings) -> int:
        here = ItemFolder(settings.folders.items)
        test, model = here.find_one(args.test, *TESTS), here.find_one(args.model, *MODELS)
        return _run([make_pair(here, test, model)], args.out, settings)

    return _exit_code(parser, argv, do)


def run_matches(argv: Sequence[str] | None = None) -> int:
    """``pipeline-run-matches``: all pairs that an item takes part in."""
    parser = _parser("pipeline-run-matches", "Run all pairs that an item takes part in.")
    parser.add_argument("item", metavar="ITEM", help=f"a Test's, a Model's or a driver's {_NAME}")
    parser.add_argument("--list", action="store_true", help="only print the pairs")
    _add_out(parser)

    def do(args: argparse.Namespace, settings: Settings) -> int:
        here = ItemFolder(settings.folders.items)
        kimid = here.find_one(args.item)
        found = find_pairs(here, kimid, runnable(here, settings.folders))
        if not found.pairs:
            why = f"it takes part in no pair with an installed Model{found.missing}"
            raise PipelineError(f"{kimid}: {why}")
        if args.list:
            for pair in found.pairs:
                print(pair.test.kimid, pair.model.kimid)
            return 0
        return _run(found.pairs, args.out, settings)

    return _exit_code(parser, argv, do)


def verify(argv: Sequence[str] | None = None) -> int:
    """``pipeline-verify``: check that an item is complete, in KIM's format, and can run here."""
    parser = _parser(
        "pipeline-verify",
        "Check that an item is complete, in KIM's format, and can run here; build what has to be.",
    )
    parser.add_argument("item", metavar="ITEM", help=f"its {_NAME}")

    def do(args: argparse.Namespace, settings: Settings) -> int:
        here = ItemFolder(settings.folders.items)
        kimid = here.find_one(args.item)
        with contextlib.ExitStack() as stack:
            found = faults(here, kimid, settings.folders, _builder(stack, settings))
        for line in found:
            print(f"{kimid}: {line}")
        if not found:
            print(f"{kimid}: good")
        return FAILED if found else 0

    return _exit_code(parser, argv, do)


def _builder(stack: contextlib.ExitStack, settings: Settings) -> Build:
    """Builds items in a sandbox, which is opened for the first of them."""

    @cache
    def products() -> Products:
        sandbox, folder = stack.enter_context(opened(settings)), stack.enter_context(scratch())
        probe(sandbox)
        return Products(settings.folders, folder, sandbox, settings.limits)

    return lambda item: products().product(item, Path(os.devnull), lambda: None)


def items(argv: Sequence[str] | None = None) -> int:
    """``pipeline-items``: list, add and remove items; bash completes names with its list."""
    parser = _parser("pipeline-items", "List, add or remove the items on this machine.")
    words = parser.add_subparsers(dest="do", metavar="list | add | remove", required=True)
    listing = words.add_parser("list", help="print their KIM ids")
    listing.add_argument("kinds", metavar="KIND", nargs="*", help="as TE or MO; default: all")
    adding = words.add_parser("add", help="add items from folders, or as KIM's website ships them")
    adding.add_argument(
        "sources", metavar="FILE.txz|FOLDER", nargs="+", type=Path, help="its folder is a KIM id"
    )
    removing = words.add_parser("remove", help="remove items that no other one here needs")
    removing.add_argument("kimids", metavar="ITEM", nargs="+", help="a whole KIM id")
    removing.add_argument("--force", action="store_true", help="do not ask")
    for each in (listing, adding, removing):
        _add_settings(each, argparse.SUPPRESS)

    def do(args: argparse.Namespace, settings: Settings) -> int:
        here = ItemFolder(settings.folders.items)
        if args.do == "list":
            for name in here.names(*args.kinds):
                print(name)
        elif args.do == "add":
            for source in args.sources:
                print(f"{collection.add(here, source)}: added")
        else:
            if not args.force and not _confirmed(f"Remove {' '.join(args.kimids)} for good?"):
                raise PipelineError("nothing was removed: say y, or --force")
            collection.remove_items(here, args.kimids)
        return 0

    return _exit_code(parser, argv, do)


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def generate(argv: Sequence[str] | None = None) -> int:
    """``pipeline-generate``: make the Tests of a Test Driver from its template."""
    parser = _parser("pipeline-generate", "Make the Tests of a Test Driver from its template.")
    parser.add_argument("driver", metavar="DRIVER", help=f"the Driver's {_NAME}")
    parser.add_argument(
        "--version", type=int, default=0, metavar="N", help="of the Tests, 0 to 999; default: 0"
    )

    def do(args: argparse.Namespace, settings: Settings) -> int:
        if not 0 <= args.version <= 999:
            raise PipelineError(f"--version {args.version}: it is 0 to 999")
        here = ItemFolder(settings.folders.items)
        driver = here.get(here.find_one(args.driver, "TD"))
        with opened(settings) as sandbox, scratch() as folder:
            probe(sandbox)
            made = tests_of(driver, folder, sandbox, settings.limits, args.version)
            there = [test.kimid for test in made if here.has(test.kimid)]
            if there:
                raise PipelineError(f"{there[0]} is here already; --version makes newer ones")
            for test in made:
                print(f"{collection.add(here, test.path)}: added")
        return 0

    return _exit_code(parser, argv, do)


def director(argv: Sequence[str] | None = None) -> int:
    """``pipeline-director``: the service that makes jobs of updates."""
    parser = _parser("pipeline-director", "Make jobs of updates until told to stop.")

    def do(_args: argparse.Namespace, settings: Settings) -> int:
        directing.work(settings, _stop_on_sigterm())
        return 0

    return _exit_code(parser, argv, do)


def worker(argv: Sequence[str] | None = None) -> int:
    """``pipeline-worker``: the service that runs jobs, one for each CPU."""
    parser = _parser("pipeline-worker", "Run jobs from the queue until told to stop.")
    parser.add_argument(
        "--slot", default="0", help="a name that no other worker on this machine has"
    )

    def do(args: argparse.Namespace, settings: Settings) -> int:
        if not args.slot.isalnum():
            raise PipelineError(f"--slot {quoted(args.slot)}: letters and digits only")
        stopped = _stop_on_sigterm()
        with opened(settings) as sandbox:
            probe(sandbox)
            working.work(settings, sandbox, args.slot, stopped)
        return 0

    return _exit_code(parser, argv, do)


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(name, description=about)
    _add_settings(parser)
    return parser


def _add_settings(parser: argparse.ArgumentParser, default: object = None) -> None:
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="a TOML file", default=default
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for the results directories; default: the current one",
    )


def _exit_code(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    do: Callable[[argparse.Namespace, Settings], int],
) -> int:
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return do(args, load(args.settings))
    except PipelineError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return FAULT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _stop_on_sigterm() -> Callable[[], bool]:
    """A function that says whether systemd has told the service to stop.

    Any fault ends the service too. systemd then starts it again, with a new connection.
    """
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    return told.is_set


def _run(found: Sequence[Pair], out: Path, settings: Settings) -> int:
    """Run pairs one after another, print a line for each, and move their results to ``out``."""
    with opened(settings) as sandbox:
        probe(sandbox)
        print(f"{len(found)} to run in {sandbox.name}", file=sys.stderr)
        return max([_run_one(pair, out, sandbox, settings) for pair in found])


def _run_one(pair: Pair, out: Path, sandbox: Sandbox, settings: Settings) -> int:
    """Run a pair; the exit code that it asks for."""
    target = out / pair.id
    if target.exists():
        raise PipelineError(f"{target} exists; remove it, or use --out DIR")
    with scratch() as folder:
        outcome = run_test(pair, folder, sandbox, settings.limits, folders=settings.folders)
        try:
            out.mkdir(parents=True, exist_ok=True)
            move_results(outcome, target)
        except OSError as error:
            raise PipelineError(f"{target}: {error.strerror}") from error
    word = outcome.fault or "good"
    print(f"{pair.test.kimid} {pair.model.kimid}: {word} ({outcome.seconds:.1f} s) {target}")
    return FAILED if outcome.fault else 0
