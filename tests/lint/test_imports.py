"""Imports run one way: fabfile -> tasks -> deploys -> operations -> facts -> settings.

Beside it lies the runner, kimpipeline, which tasks may import. The product imports no tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# How high a module lies, by the first of these that its name begins with. What a fact or an
# operation may use is at the bottom.
_HEIGHT = {
    "deploys.errors": 0,
    "deploys.facts.mapper": 0,
    "deploys.settings.names": 0,
    "deploys.settings.part": 0,
    "deploys.settings.quantities": 0,
    "deploys.settings.urls": 0,
    "deploys.settings.stack": 0,
    "deploys.settings.origins": 0,
    "deploys.settings.own_volumes": 2,
    "deploys.settings": 1,
    "deploys.facts": 2,
    "deploys.operations": 3,
    "deploys": 4,
    "tasks": 5,
    "fabfile": 6,
}


# What each room may import of the others. The runner is found through sys.path, which
# tasks/__init__.py extends; scripts on a box find the copy of deploys there in the same way.
_ROOMS: dict[str, set[str]] = {
    "fabfile": {"tasks"},
    "tasks": {"deploys", "kimpipeline"},
    "deploys": set(),
    "kimpipeline": set(),
    "static": {"deploys", "kimpipeline"},
    "tests": set(),
}
_RUNNER = "static.pipeline."
# What a module may import beside that, in its functions: the tasks of developers start tests.
_WHEN_CALLED = {"tasks.dev": {"tests"}}


def _layer(module: str) -> int | None:
    heights = (high for name, high in _HEIGHT.items() if f"{module}.".startswith(f"{name}."))
    return next(heights, None)


def imported(source: str, module: str, modules: set[str]) -> set[str]:
    """The project's modules that a module's source imports, wherever in it."""
    found = names(ast.walk(ast.parse(source)), module, modules)
    return {name for name in found if _layer(name) is not None and name != module}


def names(nodes: Iterable[ast.AST], module: str, modules: set[str]) -> set[str]:
    """All that the imports among these nodes name."""
    package = module.split(".")[:-1]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # "from package import module" names a module by its last part
            inner = {f"{name}.{alias.name}" for alias in node.names}
            found |= (inner & modules) or {name}
    return found


def crossings(source: str, module: str) -> list[str]:
    """A line for each import of a room that this module's room may not import."""
    nodes = list(ast.walk(ast.parse(source)))
    room = module.split(".")[0]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    called = {node for function in functions for node in ast.walk(function)}
    lines = []
    for place, also in ((set(nodes) - called, set()), (called, _WHEN_CALLED.get(module, set()))):
        known = {room, *_ROOMS[room], *also}
        lines += [
            f"{module} imports {name}: {room} may not"
            for name in sorted(names(place, module, set()))
            if name.split(".")[0] in _ROOMS.keys() - known
        ]
    return lines


def faults(graph: dict[str, set[str]]) -> list[str]:
    """A line for each import that goes up, and one for a circle."""
    lines = [
        f"{module} imports {other}, which lies above it"
        for module, others in sorted(graph.items())
        for other in sorted(others)
        if (_layer(other) or 0) > (_layer(module) or 0)
    ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        lines.append("a circle: " + " <- ".join(error.args[1]))
    return lines


def test_imports_run_one_way(tracked: list[Path], root: Path) -> None:
    """Over all modules of the project; tests and what lands on a box are not among them."""
    files = {}
    for file in tracked:
        parts = file.relative_to(root).with_suffix("").parts
        if file.suffix == ".py" and _layer(parts[0]) is not None:
            files[".".join(parts).removesuffix(".__init__")] = file
    assert "deploys.settings" in files
    graph = {
        # __init__ is a module of its own package for relative imports
        name: imported(
            file.read_text(), f"{name}.__init__" if file.stem == "__init__" else name, set(files)
        )
        - {name}
        for name, file in files.items()
    }
    assert not faults(graph)


def test_no_room_imports_what_it_may_not(tracked: list[Path], root: Path) -> None:
    """The product is whole without tests/, and the runner without the rest."""
    lines: list[str] = []
    rooms = set()
    for file in tracked:
        module = ".".join(file.relative_to(root).with_suffix("").parts).removeprefix(_RUNNER)
        room = module.split(".")[0]
        if room in _ROOMS and room != "tests" and _is_python(file):
            rooms.add(room)
            lines += crossings(file.read_text(), module)
    assert rooms == _ROOMS.keys() - {"tests"}
    assert not lines


def _is_python(file: Path) -> bool:
    """By its name, or as a script on a box is one, by its first line."""
    if file.suffix == ".py":
        return True
    with file.open("rb") as stream:
        return re.match(rb"#!.*python", stream.readline()) is not None


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("tasks.host", "from tests.bench import up", 1),
        ("tasks.host", "def f():\n    import tests.bench.up", 1),
        ("tasks.dev", "from tests.bench import up", 1),
        ("tasks.dev", "def f():\n    from tests.bench import up", 0),
        ("tasks.dev", "import tests\ndef f():\n    import tests", 1),
        ("tasks.dev", "def f():\n    import kimpipeline, deploys.boot", 0),
        ("tasks.pipeline", "from kimpipeline.messages import JOBS", 0),
        ("deploys.runner", "from kimpipeline.messages import JOBS", 1),
        ("kimpipeline.worker", "from . import queue\nimport deploys.boot", 1),
        ("static.onbox.usr.lib.a", "import deploys.facts.status, tasks.host", 1),
        ("fabfile", "from tasks import ns\nimport deploys", 1),
    ],
)
def test_what_a_room_may_import(module: str, source: str, expected: int) -> None:
    """Tests are for developers' tasks alone, and only once they are called."""
    assert len(crossings(source, module)) == expected


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("deploys.facts.lvm", "from deploys import boot", 1),
        ("deploys.facts.lvm", "def f():\n    import deploys.operations.lvm", 1),
        ("deploys.facts.lvm", "from ..operations import lvm", 1),
        ("deploys.boot", "from .facts import lvm\nfrom .operations.lvm import x", 0),
        ("deploys.settings", "from deploys.errors import BoxError", 0),
        ("deploys.boot", "import tasks.host", 1),
        ("tasks.host", "import deploys.boot, os", 0),
    ],
)
def test_the_direction_of_an_import(module: str, source: str, expected: int) -> None:
    """Plain, relative and inner imports are all seen."""
    modules = {"deploys.boot", "deploys.operations.lvm", "deploys.facts.lvm"}
    assert len(faults({module: imported(source, module, modules)})) == expected


def test_a_circle_is_seen() -> None:
    """Two modules of one layer may not need each other."""
    graph = {"deploys.boot": {"deploys.stack"}, "deploys.stack": {"deploys.boot"}}
    assert len(faults(graph)) == 1
