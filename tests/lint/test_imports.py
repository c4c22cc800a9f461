"""Imports run one way: fabfile -> tasks -> deploys -> operations -> facts -> settings."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# How high a module lies, by the first of these that its name begins with. What a fact or an
# operation may use is at the bottom.
_HEIGHT = {
    "deploys.errors": 0,
    "deploys.parts": 0,
    "deploys.settings": 1,
    "deploys.facts": 2,
    "deploys.own_volumes": 2,
    "deploys.operations": 3,
    "deploys": 4,
    "tasks": 5,
    "fabfile": 6,
}


def _layer(module: str) -> int | None:
    heights = (high for name, high in _HEIGHT.items() if f"{module}.".startswith(f"{name}."))
    return next(heights, None)


def imported(source: str, module: str, modules: set[str]) -> set[str]:
    """The project's modules that a module's source imports, wherever in it."""
    package = module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # "from package import module" names a module by its last part
            inner = {f"{name}.{alias.name}" for alias in node.names}
            found |= (inner & modules) or {name}
    return {name for name in found if _layer(name) is not None and name != module}


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
