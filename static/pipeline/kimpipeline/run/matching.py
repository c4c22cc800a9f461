"""Which Tests run with which Models: by species, kind, simulator, and what is installed.

The rules are those of KIM's developer platform: ``matching-models`` and ``run-compatibility`` of
kimspec.edn, ``simulator-name`` for a simulator model, ``kim-api-version`` for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kimpipeline.errors import ItemError
from kimpipeline.kim.items import Item, ItemFolder, Kimspec
from kimpipeline.kim.kimid import MODELS, TESTS, code, item_key
from kimpipeline.run.pair import Pair

_STANDARD = "standard-models"
# KIM's schema: all portable models have this run-compatibility, and some simulator models do.
_PORTABLE = "portable-models"
_KIM_API = "2"  # the major version of the KIM API that boxes have
_ASE_RUNS = ("ase", "lammps", "asap")  # the simulators whose models ASE's calculator takes


def other_api(spec: Kimspec) -> str:
    """Why an item is not for the KIM API that boxes have; empty if it is."""
    asked = spec.kim_api_version
    return "" if asked.split(".")[0] == _KIM_API else f"is for KIM API {asked}, here is {_KIM_API}"


def misfit(test: Kimspec, model: Kimspec, simulator: str) -> str:
    """Why a Test does not run with a Model, in a line; empty if it does.

    Args:
        test: the Test's.
        model: the Model's.
        simulator: the ``simulator-name`` of the Test or its driver; empty if they have none.
    """
    has = {each.lower() for each in model.species}
    lacks = [each for each in test.species if each.lower() not in has]
    if "__VC_" not in test.extended_id and (lacks or not test.species):
        needed = " ".join(test.species) or "no species"
        had = " ".join(model.species)
        return f"{test.extended_id} ({needed}) is not for {model.extended_id} ({had})"
    for spec in (test, model):
        if reason := other_api(spec):
            return f"{spec.extended_id} {reason}"
    simulated = "__SM_" in model.extended_id
    if test.matching_models == (_STANDARD,):
        if model.run_compatibility != _PORTABLE:
            return f"{model.extended_id} is for Tests of its own kind: {model.run_compatibility}"
    elif not simulated or not _is_special(test, model):
        kinds = " ".join(test.matching_models)
        return f"{test.extended_id} is for models of the kind {kinds}, not {model.extended_id}"
    return _other_simulator(test, model, simulator.lower()) if simulated else ""


def _is_special(test: Kimspec, model: Kimspec) -> bool:
    """Whether a Test names a model's potential, or with a slash at its end a group of them."""
    potential = model.simulator_potential
    return any(
        potential.startswith(each) if each.endswith("/") else potential == each
        for each in test.matching_models
    )


def _other_simulator(test: Kimspec, model: Kimspec, simulator: str) -> str:
    wanted = model.simulator_name.lower()
    if simulator and (simulator == wanted or (simulator == "ase" and wanted in _ASE_RUNS)):
        return ""
    return (
        f"{model.extended_id} is for {model.simulator_name or 'no simulator'}, "
        f"{test.extended_id} for {simulator or 'no simulator'}"
    )


def _misfit(items: ItemFolder, test: Item, model: Item) -> str:
    """As ``misfit``; raises ItemError if the Test's driver is missing or not valid."""
    simulator = test.spec.simulator_name
    if model.kind == "SM" and test.spec.test_driver:
        simulator = items.get(test.spec.test_driver).spec.simulator_name
    return misfit(test.spec, model.spec, simulator)


def latest(items: Iterable[Item]) -> list[Item]:
    """The highest version of each item, sorted by KIM id."""
    found: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: code(item.kimid)):
        found[item_key(item.kimid)] = item
    return sorted(found.values(), key=lambda item: item.kimid)


def make_pair(items: ItemFolder, test: str, model: str) -> Pair:
    """A pair of a Test and a Model, with all items that they need.

    Raises:
        ItemError: they are not a Test and a Model, they do not fit, or an item is missing.
    """
    first, second = items.get(test), items.get(model)
    if first.kind not in TESTS:
        raise ItemError(f"{test} is no Test")
    if second.kind not in MODELS:
        raise ItemError(f"{model} is no Model")
    if reason := _misfit(items, first, second):
        raise ItemError(reason)
    return Pair(first, second, items.closure(first, second))


@dataclass(frozen=True)
class Pairs:
    """Pairs whose Model is installed, and the Models of the others, sorted."""

    pairs: list[Pair]
    lacking: list[str]

    @property
    def missing(self) -> str:
        """The end of a line that tells which Models are not installed; empty if all are."""
        more = f" and {len(self.lacking) - 3} more" if len(self.lacking) > 3 else ""
        names = ", ".join(self.lacking[:3]) + more
        return f"; the KIM API here lacks {names}" if names else ""


def find_pairs(items: ItemFolder, kimid: str, models: frozenset[str]) -> Pairs:
    """The pairs that an item takes part in, with the latest versions of all other items.

    Args:
        items: the folder of the items; a pair that lacks one there is left out.
        kimid: a Test, a Model, or a driver of either.
        models: the names of the installed models.

    Raises:
        ItemError: the item does not exist or is not valid, or an item that it needs is missing.
    """
    item = items.get(kimid)
    items.closure(item)
    tests = [item] if item.kind in TESTS else latest(items.items(*TESTS))
    those = [item] if item.kind in MODELS else latest(items.items(*MODELS))
    found, lacking = [], set()
    for test in tests:
        for model in those:
            try:
                if _misfit(items, test, model):
                    continue
                pair = Pair(test, model, items.closure(test, model))
            except ItemError:
                continue
            if kimid not in pair.versions:
                continue
            if model.kimid in models:
                found.append(pair)
            else:
                lacking.add(model.kimid)
    return Pairs(found, sorted(lacking))
