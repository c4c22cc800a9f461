"""Compiled parts: what is asked of their sources, and what a box with one needs no more."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploys.compiled import LIBRARIES, PROGRAMS
from deploys.errors import BoxError
from deploys.modules import place
from deploys.operations.onbox import unpacked_name
from deploys.parts import COMPILED, Part
from tasks import compiled, recipes
from tasks.machines import apt, archive, bootstrap, gitsource, shell
from tasks.sources import Sources
from tests.unit.test_wheels import LATER, MIRROR, NOW, silent

COMMIT = "c0ffee" * 6 + "c0de"


def sources(name: str, commit: str = COMMIT) -> Sources:
    return Sources(Part(source="git", location=f"/srv/{name}", version=commit), name=name)


@dataclass
class Compiler:
    """Stands in for apt, git and mmdebstrap: a prefix with these files comes of all sources."""

    files: tuple[str, ...] = ("bin/lmp",)
    links: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=lambda: {"cmake": "3.31"})
    trees: list[bootstrap.Tree] = field(default_factory=list)

    def run_in_tree(self, tree: bootstrap.Tree, work: Path, _script: str) -> None:
        self.trees.append(tree)
        for name in self.files:
            (work / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "out" / name).write_text(name)
        for name, target in self.links.items():
            (work / "out" / name).symlink_to(target)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    compiler = Compiler()
    monkeypatch.setattr(apt, "resolved", lambda *_: compiler.tools)
    monkeypatch.setattr(archive, "read", lambda *_: NOW)
    monkeypatch.setattr(bootstrap, "run_in_tree", compiler.run_in_tree)
    monkeypatch.setattr(bootstrap, "sources", lambda _: MIRROR)
    monkeypatch.setattr(gitsource, "fetch", lambda *_: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shell, "find", str)
    return compiler


def made(folder: Path, found: archive.Archive = NOW, name: str = "lammps") -> Path:
    return compiled.compiled(found, "trixie", folder, silent, None, sources(name)).path


def test_every_compiled_part_has_a_recipe_and_programs() -> None:
    assert set(COMPILED) == set(compiled.RECIPES) == set(PROGRAMS)
    assert set(LIBRARIES) <= set(PROGRAMS)


def test_it_is_built_once_for_all_that_made_it(compiler: Compiler, tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path, LATER) == first
    compiler.tools["cmake"] = "3.32"
    other = made(tmp_path, archive.Archive(MIRROR, (), "still later", 17))
    assert other != first
    assert other.read_bytes() == first.read_bytes()
    assert len(compiler.trees) == 2
    with tarfile.open(first) as tar:
        assert tar.getnames() == ["bin/lmp"]


def test_a_box_that_has_it_needs_no_build(compiler: Compiler, tmp_path: Path) -> None:
    first = compiled.for_host("3.13", None, tmp_path, silent, sources=sources("lammps"))
    assert (first.name, first.path.exists()) == ("lammps", True)
    link = unpacked_name(place("lammps"), first.digest)
    again = compiled.for_host("3.13", link, tmp_path / "none", silent, sources=sources("lammps"))
    assert (again.digest, len(compiler.trees)) == (first.digest, 1)
    other = sources("lammps", "feed" * 10)
    assert compiled.for_host("3.13", link, tmp_path, silent, sources=other) != again
    assert len(compiler.trees) == 2
    with pytest.raises(recipes.UnavailableError, match=r"has Python 3\.12"):
        compiled.for_host("3.12", None, tmp_path, silent, sources=other)


def test_the_links_of_a_library_are_kept(compiler: Compiler, tmp_path: Path) -> None:
    compiler.files = ("bin/kim-api-collections-management", "lib/libkim-api.so.2.9")
    compiler.links = {"lib/libkim-api.so.2": "libkim-api.so.2.9"}
    with tarfile.open(made(tmp_path, name="openkim-api")) as tar:
        assert tar.getmember("lib/libkim-api.so.2").linkname == "libkim-api.so.2.9"


@pytest.mark.parametrize(
    ("name", "files", "line"),
    [
        ("lammps", ("bin/lmp_serial",), "building lammps: the sources make no program lmp"),
        (
            "openkim-api",
            ("bin/kim-api-collections-management", "lib/libkim-api.so.3"),
            "make libkim-api.so.3, and what else a box has is linked to libkim-api.so.2",
        ),
        (
            "openkim-api",
            ("bin/kim-api-collections-management", "lib/libkim-api.a"),
            "the sources make no libkim-api.so, and what else a box has is linked to",
        ),
    ],
)
def test_sources_of_something_else_are_refused(
    name: str, files: tuple[str, ...], line: str, compiler: Compiler, tmp_path: Path
) -> None:
    compiler.files = files
    with pytest.raises(BoxError) as caught:
        made(tmp_path, name=name)
    assert line in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == [f"{name}.lock"]
