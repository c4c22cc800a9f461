"""Check that an item is complete, in KIM's format, and can run here, without running it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kimpipeline.errors import ItemError, RunError
from kimpipeline.kim import results, template
from kimpipeline.kim.items import Item, ItemFolder
from kimpipeline.kim.kimid import MODELS, TESTS
from kimpipeline.kim.outside import missing
from kimpipeline.run.matching import other_api
from kimpipeline.run.pair import Pair, stdin
from kimpipeline.run.products import driver_to_build, how, installed, lacking
from kimpipeline.settings import Folders

_PROGRAMS = (*TESTS, "TD")
Build = Callable[[Item], Path]
"""Builds an item, and gives the folder of what was built; raises ItemError or RunError."""


def faults(items: ItemFolder, kimid: str, folders: Folders, build: Build) -> list[str]:
    """A line for each fault of an item; none if it is good.

    Args:
        items: the folder of the items.
        kimid: the item.
        folders: where the KIM API's models are.
        build: what has to be built is built by this, where this machine can.

    Raises:
        ItemError: there is no such item.
    """
    if not items.has(kimid):
        items.get(kimid)  # raises
    try:
        item = items.get(kimid)
    except ItemError as error:
        return [str(error).removeprefix(f"{kimid}: ")]
    found = list(filter(None, [other_api(item.spec)]))
    others: tuple[Item, ...] = ()
    try:
        others = items.closure(item)
    except ItemError as error:
        found.append(str(error))
    else:
        if item.kind in TESTS:
            found += _template(item, others)
    if item.kind in MODELS and not how(item, folders) and kimid not in installed(folders.models):
        found.append("the KIM API here lacks it, and there is no CMakeLists.txt to build it by")
    try:
        needed = [*others, *_driver(items, item, folders)]
        found += [line for each in needed for line in _build(each, folders, build)[1]]
    except ItemError as error:
        found.append(f"its driver is not installed: {error}")
    found += _own_program(item, folders, build)
    if item.kind in _PROGRAMS:
        found += _properties(item, others)
        found += filter(None, missing([item, *others]).split("; "))
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


def _driver(items: ItemFolder, item: Item, folders: Folders) -> list[Item]:
    """The driver that has to be built for a Model."""
    name = driver_to_build(item, folders) if item.kind in MODELS else ""
    return [items.get(name)] if name else []


def _build(item: Item, folders: Folders, build: Build) -> tuple[Path | None, list[str]]:
    """The folder of an item's product, if it has one, or why it cannot be built."""
    if not how(item, folders):
        return None, []
    if why := lacking(item, folders):
        return None, [why]
    try:
        return build(item) / item.kimid, []
    except (ItemError, RunError) as error:
        return None, [str(error)]


def _own_program(item: Item, folders: Folders, build: Build) -> list[str]:
    product, found = _build(item, folders, build)
    if found or item.kind not in _PROGRAMS:
        return [line.removeprefix(f"{item.kimid} ") for line in found]
    runner = (product or item.path) / item.runner.name
    if runner.is_symlink() or not runner.is_file():
        return ["there is no program named runner"]
    return [] if os.access(runner, os.X_OK) else ["runner is not executable"]


def _properties(item: Item, others: tuple[Item, ...]) -> list[str]:
    try:
        own = {name for each in (item, *others) for name in results.definitions(each.path)}
    except ItemError as error:
        return [str(error)]
    known = {*results.properties(), *own}
    return [f"{name} is not a KIM property" for name in item.spec.properties if name not in known]
