"""The commands that people type on a box, and the two services."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from kimpipeline import director as directing
from kimpipeline import worker as working
from kimpipeline.errors import PipelineError
from kimpipeline.files import scratch
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import quoted
from kimpipeline.run.matching import find_pairs, installed, make_pair
from kimpipeline.run.pair import Pair, move_results, run_test
from kimpipeline.run.sandbox import opened
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.run.supervise import probe
from kimpipeline.run.verify import faults
from kimpipeline.settings import Settings, load

FAULT, FAILED = 1, 2  # exit codes: the command could not do its work; a Test or an item is bad


def run_pair(argv: Sequence[str] | None = None) -> int:
    """``pipeline-run-pair``: one Test with one Model."""
    parser = _parser("pipeline-run-pair", "Run a Test with a Model.")
    parser.add_argument("test", metavar="TEST", help="the Test's KIM id")
    parser.add_argument("model", metavar="MODEL", help="the Model's KIM id")
    _add_out(parser)

    def do(args: argparse.Namespace, settings: Settings) -> int:
        return _run(
            [make_pair(ItemFolder(settings.folders.items), args.test, args.model)],
            args.out,
            settings,
        )

    return _exit_code(parser, argv, do)


def run_matches(argv: Sequence[str] | None = None) -> int:
    """``pipeline-run-matches``: all pairs that an item takes part in."""
    parser = _parser("pipeline-run-matches", "Run all pairs that an item takes part in.")
    parser.add_argument("item", metavar="ITEM", help="the KIM id of a Test, a Model or a driver")
    parser.add_argument("--list", action="store_true", help="only print the pairs")
    _add_out(parser)

    def do(args: argparse.Namespace, settings: Settings) -> int:
        here = ItemFolder(settings.folders.items)
        found = find_pairs(here, args.item, installed(settings.folders.models))
        if not found.pairs:
            why = f"it takes part in no pair with an installed Model{found.missing}"
            raise PipelineError(f"{args.item}: {why}")
        if args.list:
            for pair in found.pairs:
                print(pair.test.kimid, pair.model.kimid)
            return 0
        return _run(found.pairs, args.out, settings)

    return _exit_code(parser, argv, do)


def verify(argv: Sequence[str] | None = None) -> int:
    """``pipeline-verify``: check that an item is complete and in KIM's format."""
    parser = _parser("pipeline-verify", "Check that an item is complete and in KIM's format.")
    parser.add_argument("item", metavar="ITEM", help="its KIM id")

    def do(args: argparse.Namespace, settings: Settings) -> int:
        found = faults(ItemFolder(settings.folders.items), args.item)
        for line in found:
            print(f"{args.item}: {line}")
        if not found:
            print(f"{args.item}: good")
        return FAILED if found else 0

    return _exit_code(parser, argv, do)


def items(argv: Sequence[str] | None = None) -> int:
    """``pipeline-items``: list the items on this machine; bash completes names with it."""
    parser = _parser("pipeline-items", "List the items on this machine.")
    parser.add_argument(
        "kinds", metavar="KIND", nargs="*", help="kinds to list, as TE or MO; default: all"
    )

    def do(args: argparse.Namespace, settings: Settings) -> int:
        for name in ItemFolder(settings.folders.items).names(*args.kinds):
            print(name)
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
    parser.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file")
    return parser


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
        outcome = run_test(pair, folder, sandbox, settings.limits)
        try:
            out.mkdir(parents=True, exist_ok=True)
            move_results(outcome, target)
        except OSError as error:
            raise PipelineError(f"{target}: {error.strerror}") from error
    word = outcome.fault or "good"
    print(f"{pair.test.kimid} {pair.model.kimid}: {word} ({outcome.seconds:.1f} s) {target}")
    return FAILED if outcome.fault else 0
