"""Which Tests run with which Models: by species, by kind, and by what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimpipeline.errors import ItemError
from kimpipeline.kim.items import Item, ItemFolder, Kimspec
from kimpipeline.kim.kimid import MODELS, TESTS, code
from kimpipeline.run.pair import Pair

_STANDARD = "standard-models"
# KIM's schema: all portable models have this run-compatibility, and some simulator models do.
_PORTABLE = "portable-models"


def installed(patterns: Sequence[str]) -> frozenset[str]:
    """The names of the installed models; the patterns match the KIM API's folders of them."""
    root = Path("/")
    folders = (folder for pattern in patterns for folder in root.glob(pattern.lstrip("/")))
    return frozenset(entry.name for folder in folders for entry in folder.iterdir())


def fit(test: Kimspec, model: Kimspec) -> bool:
    """Whether a Test runs with a Model: both are standard, and the species match.

    The Model must have all species of the Test. A Test without a species fits no Model; a
    verification check without one fits each.
    """
    standard = _STANDARD in test.matching_models and model.run_compatibility == _PORTABLE
    named = bool(test.species) or "__VC_" in test.extended_id
    return standard and named and set(test.species) <= set(model.species)


def latest(items: Iterable[Item]) -> list[Item]:
    """The highest version of each item, sorted by KIM id."""
    found: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: code(item.kimid)):
        found[code(item.kimid)[:-4]] = item  # without _VERSION
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
    if not fit(first.spec, second.spec):
        needed = " ".join(first.spec.species) or "no species"
        raise ItemError(f"{test} ({needed}) is not for {model} ({' '.join(second.spec.species)})")
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
            if fit(test.spec, model.spec):
                try:
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
