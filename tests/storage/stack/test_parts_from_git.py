"""Parts of the stack from git: served repositories, and a small Debian on which they land."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pyinfra.api.facts import FactBase

from deploys.operations.packages import LocalPackage, present
from deploys.session import Session, Target
from deploys.settings.part import Part
from deploys.settings.stack import BUILT, package_name
from deploys.stack.items import REPOSITORY_PATH, no_items, repository
from tasks.debian import archive, chroot
from tasks.desk import shell
from tasks.stack import items, packages
from tasks.stack.sources import Sources
from tests.unit.tasks.stack import git_server
from tests.unit.tasks.stack.test_items import MODEL, TEST, write

T = TypeVar("T")
PYPROJECT = """\
[build-system]
requires = ["{backend}"]
build-backend = "{backend}.{module}"
[project]
name = "ase"
version = "3.99"
description = "ASE, as a maintainer's fork has it"
[project.scripts]
ase = "ase:say"
"""
OF_FORK = "import ase; print(ase.__file__)"


def applied(root: Path, deploy: Callable[[], Any]) -> tuple[int, int]:
    """How many operations changed the root, and how many would again."""
    target = Target("the box", chroot=root, environment=chroot.environment())
    with Session(target) as session:
        session.prepare([deploy])
        changed = session.run()
    with Session(target) as session:
        again = session.prepare([deploy])
    return len(changed), sum(operation.changes for operation in again)


def fact(root: Path, kind: type[FactBase[T]]) -> T:
    """A fact of the root."""
    with Session(Target("the box", chroot=root, environment=chroot.environment())) as session:
        return session.fact(kind)


def sources(name: str, url: str, commit: str) -> Sources:
    return Sources(Part(source="git", location=name, version=commit), url, name)


@pytest.mark.parametrize("role", ["gateway", "devel"])
def test_items_of_a_commit_are_the_pipelines_and_stay_what_they_are(
    role: str, root: Path, tmp_path: Path
) -> None:
    served = tmp_path / "served/openkim-repository"
    place = "persistent/gateway/srv/items" if role == "gateway" else "persistent/pipeline/items"
    write(served, f"tests/{TEST}")
    commit = git_server.commit(served, "one")
    (served / f"tests/{TEST}/runner").write_text("changed, by the same name\n")
    write(served, f"models/{MODEL}")
    later = git_server.commit(served, "two")
    with git_server.served(tmp_path / "served") as url:
        first, second = (
            items.items(sources(served.name, url, each), tmp_path / "kept", print)
            for each in (commit, later)
        )
    assert applied(root, lambda: repository(items=first, role=role)) == (2, 0)
    assert [path.name for path in (root / place).iterdir()] == [TEST]
    assert applied(root, lambda: repository(items=second, role=role)) == (2, 0)
    assert sorted(path.name for path in (root / place).iterdir()) == [TEST, MODEL]
    assert (root / place / TEST / "runner").read_text() == "#!/bin/sh\n"
    new = shell.run(["chroot", root, "cat", f"/opt/pipeline/repository/{TEST}/runner"]).stdout
    assert new == "changed, by the same name\n"
    assert applied(root, no_items) == (1, 0)
    assert sorted(path.name for path in (root / place).iterdir()) == [TEST, MODEL]
    assert not list(root.glob(f"{REPOSITORY_PATH[1:]}*"))


@pytest.mark.long
@pytest.mark.parametrize("backend", ["setuptools.build_meta", "flit_core.buildapi"])
def test_a_fork_of_ase_takes_debians_place(backend: str, root: Path, tmp_path: Path) -> None:
    fork = tmp_path / "served/ase"
    (fork / "ase").mkdir(parents=True)
    (fork / "ase/__init__.py").write_text("def say():\n    print('a fork')\n")
    name, _, module = backend.partition(".")
    (fork / "pyproject.toml").write_text(PYPROJECT.format(backend=name, module=module))
    commit, kept = git_server.commit(fork, "a fork"), tmp_path / "kept"
    kept.mkdir()
    with git_server.served(tmp_path / "served") as url:
        asked = sources("ase", url, commit)
        made = packages.built(asked, archive.read("trixie", kept), "trixie", kept, print)
    local = LocalPackage(package_name("ase"), packages.source_digest(asked, "3.13"), made)
    needs = BUILT["ase"].needs

    def called() -> str:
        return shell.run(["chroot", root, "/usr/bin/ase"]).stdout.strip()

    assert applied(root, lambda: present(packages=["python3-ase"])) == (1, 0)
    assert applied(root, lambda: present(packages=needs, local=[local])) == (1, 0)
    assert called() == "a fork"
    place = root / "usr/lib/python3/dist-packages/ase"
    assert sorted(path.name for path in place.iterdir()) == ["__init__.py", "__pycache__"]
    debians, ours = ["python3-ase"], [local.name]
    assert applied(root, lambda: present(packages=debians, absent=ours)) == (1, 0)
    assert not (root / "usr/bin/ase").exists()
    assert len(list(place.iterdir())) > 2
