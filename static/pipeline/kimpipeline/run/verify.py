"""Check that an item is complete and in KIM's format, without running it."""

from __future__ import annotations

import os

from kimpipeline.errors import ItemError
from kimpipeline.kim import results, template
from kimpipeline.kim.items import Item, ItemFolder
from kimpipeline.kim.kimid import MODELS, TESTS
from kimpipeline.run.pair import Pair, stdin

_PROGRAMS = (*TESTS, "TD")


def faults(items: ItemFolder, kimid: str) -> list[str]:
    """A line for each fault of an item; none if it is good.

    Raises:
        ItemError: there is no such item.
    """
    if not items.has(kimid):
        items.get(kimid)  # raises
    try:
        item = items.get(kimid)
    except ItemError as error:
        return [str(error).removeprefix(f"{kimid}: ")]
    found = []
    others: tuple[Item, ...] = ()
    try:
        others = items.closure(item)
    except ItemError as error:
        found.append(str(error))
    else:
        if item.kind in TESTS:
            found += _template(item, others)
    if item.kind in _PROGRAMS:
        found += _program(item)
        found += _properties(item, others)
    if item.kind in (*MODELS, "TE") and not item.spec.species:
        found.append("kimspec.edn names no species")
    return found


def _template(test: Item, others: tuple[Item, ...]) -> list[str]:
    given = {other.kimid: "results.edn" for other in others if other.kind in TESTS}
    try:
        # the Test stands for the Model too, of which only the name is used
        source = stdin(Pair(test, test, others), given, given)
        if template.is_simple(source.template):
            template.render(source.template, source.names, source.paths)
        else:
            template.check(source.template, source.names, given=bool(given))
    except ItemError as error:
        return [str(error)]
    return []


def _program(item: Item) -> list[str]:
    if item.runner.is_symlink() or not item.runner.is_file():
        return ["there is no program named runner"]
    return [] if os.access(item.runner, os.X_OK) else ["runner is not executable"]


def _properties(item: Item, others: tuple[Item, ...]) -> list[str]:
    try:
        own = {name for each in (item, *others) for name in results.definitions(each.path)}
    except ItemError as error:
        return [str(error)]
    known = {*results.properties(), *own}
    return [f"{name} is not a KIM property" for name in item.spec.properties if name not in known]
