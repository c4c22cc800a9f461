"""The rooms show themselves: packages import one way, no level is crowded, a name has one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath

import pytest

# The product's packages, and its modules that are in none, from the bottom up: each may import what
# stands before it. Facts are at the bottom, as a box reads its own state with them, without
# libraries.
_ORDER = (
    "kimpipeline",
    "kimpipeline.errors",
    "kimpipeline.files",
    "kimpipeline.waiting",
    "kimpipeline.settings",
    "kimpipeline.kim",
    "kimpipeline.run",
    "kimpipeline.queue",
    "kimpipeline.director",
    "kimpipeline.worker",
    "kimpipeline.commands",
    "deploys",
    "deploys.errors",
    "deploys.facts",
    "deploys.settings",
    "deploys.session",
    "deploys.operations",
    "deploys.plan",
    "deploys.stack",
    "deploys.services",
    "deploys.reset",
    "deploys.box",
    "deploys.__main__",
    "tasks.desk",
    "tasks.debian",
    "tasks.disks",
    "tasks.guests",
    "tasks.stack",
    "tasks.hosts",
    "tasks.boxes",
    "tasks",
    "fabfile",
)
_MOST = 12  # entries of a folder
_CROWDED = ("tasks", "deploys", "tests", "static/pipeline")
# What is one noun on several layers (fact, operation, deploy, task), or for several providers. Any
# other name of a file or a package is the name of one.
_NOUNS = {
    "boot",
    "box",
    "bundle",
    "disks",
    "errors",
    "gateway",
    "hardware",
    "items",
    "libraries",
    "lvm",
    "manifest",
    "modules",
    "onbox",
    "packages",
    "programs",
    "provider",
    "queue",
    "results",
    "services",
    "settings",
    "stack",
}


def _package(module: str) -> str | None:
    """The row of the order that a module belongs to: the longest that its name begins with."""
    rows = [row for row in _ORDER if f"{module}.".startswith(f"{row}.")]
    return max(rows, key=len, default=None)


def _imports(source: str, modules: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= (inner & modules) or {base}
    return found


def upward(sources: Mapping[str, str]) -> list[str]:
    """A line for each import, of module names to their sources, of what stands higher."""
    lines = []
    for module, source in sorted(sources.items()):
        for other in sorted(_imports(source, set(sources))):
            above, here = _package(other), _package(module)
            if above and here and _ORDER.index(above) > _ORDER.index(here):
                lines.append(f"{module} imports {other}: {above} lies above {here}")
    return lines


def crowded(paths: Iterable[PurePosixPath]) -> list[str]:
    """A line for each folder with too many entries."""
    entries: dict[PurePosixPath, set[str]] = defaultdict(set)
    for path in paths:
        for entry, folder in pairwise([path, *path.parents]):
            entries[folder].add(entry.name)
    return [
        f"{folder}: {len(names)} entries"
        for folder, names in sorted(entries.items())
        if len(names) > _MOST and f"{folder}/".startswith(tuple(f"{room}/" for room in _CROWDED))
    ]


def shared(modules: Iterable[str]) -> list[str]:
    """A line for each last name that several modules have."""
    places = defaultdict(list)
    for module in sorted(modules):
        places[module.rpartition(".")[2]].append(module)
    return [
        f"{name} is {' and '.join(found)}"
        for name, found in places.items()
        if len(found) > 1 and name not in _NOUNS
    ]


def _modules(tracked: list[Path], root: Path) -> dict[str, str]:
    """The product's modules by name, with their sources."""
    found = {}
    for file in tracked:
        name = str(file.relative_to(root)).removeprefix("static/pipeline/").removesuffix(".py")
        module = name.removesuffix("/__init__").replace("/", ".")
        if file.suffix == ".py" and _package(module):
            found[module] = file.read_text()
    assert found
    return found


def test_packages_import_one_way(tracked: list[Path], root: Path) -> None:
    """Over the whole product, and every row of the order is still something."""
    modules = _modules(tracked, root)
    assert {_package(module) for module in modules} == set(_ORDER)
    assert not upward(modules)


def test_no_folder_is_crowded(tracked: list[Path], root: Path) -> None:
    assert not crowded(PurePosixPath(file.relative_to(root)) for file in tracked)


def test_a_name_has_one_place(tracked: list[Path], root: Path) -> None:
    assert not shared(_modules(tracked, root))


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("deploys.facts.lvm", "from deploys.settings import Settings", 1),
        ("deploys.plan.sizes", "from deploys import errors\nimport deploys.facts.lvm", 0),
        ("tasks.desk.shell", "from tasks.hosts.fleet import enlist", 1),
        ("tasks.hosts.show", "def f():\n    from tasks import box", 1),
        ("tasks.host", "from tasks import box", 0),
        ("kimpipeline.kim.items", "from kimpipeline.run.pair import run", 1),
    ],
)
def test_an_import_upward_is_seen(module: str, source: str, expected: int) -> None:
    assert len(upward({module: source, "tasks.box": "", "deploys.errors": ""})) == expected


def test_a_crowded_folder_is_seen() -> None:
    """Folders count as files do, and each once."""
    paths = [PurePosixPath(f"tasks/desk/{n}.py") for n in range(12)]
    assert crowded(paths) == []
    assert crowded([*paths, PurePosixPath("tasks/desk/more/a.py")]) == ["tasks/desk: 13 entries"]
    assert crowded(PurePosixPath(f"docs/{n}.md") for n in range(13)) == []


def test_a_name_in_two_places_is_seen() -> None:
    assert shared(["tasks.hosts.show", "deploys.plan.show"]) == [
        "show is deploys.plan.show and tasks.hosts.show"
    ]
    assert shared(["tasks.stack", "deploys.stack", "tasks.hosts.fleet"]) == []
