"""What kimpy is built from: the lock's sources, another version's, a file's or a commit's."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from deploys.errors import BoxError
from deploys.modules import KIMPY_PATH
from deploys.operations.onbox import unpacked_name
from deploys.parts import Part
from tasks import wheels
from tasks.machines import bootstrap, sdist
from tasks.places import ROOT
from tasks.sources import Sources
from tests.unit import git_server
from tests.unit.test_wheels import NOW, Builder, builder, silent

__all__ = ["builder"]
LOCK = ROOT / "requirements-kimpy.txt"


def git_row(commit: str) -> Part:
    return Part(source="git", location="openkim-python", version=commit)


def test_the_default_is_the_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(sdist, "fetch", lambda lock, _folder: asked.append(lock))
    Sources().fetch(tmp_path)
    assert asked == [LOCK]
    assert (Sources().named, Sources().origin) == (LOCK.read_text(), {})


def test_another_version_is_asked_for_with_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sdist, "fetch", lambda lock, _folder: asked.append(lock.read_text()))
    other = Part(source="pip", location="kimpy", version="2.1.3", sha256="feed" * 16)
    Sources(other).fetch(tmp_path)
    assert asked == [f"kimpy==2.1.3 --hash=sha256:{'feed' * 16}\n"]


def test_a_file_is_held_against_its_hash(tmp_path: Path) -> None:
    file, work = tmp_path / "kimpy.tar.gz", tmp_path / "work"
    work.mkdir()
    file.write_bytes(b"sources")
    right = hashlib.sha256(b"sources").hexdigest()
    row = Part(source="file", location="kimpy.tar.gz", sha256=right)
    assert Sources(row, str(tmp_path)).fetch(work).read_bytes() == b"sources"
    wrong = Part(source="file", location=str(file), sha256="feed" * 16)
    with pytest.raises(BoxError, match=f"its sha256 is {right}, not feed"):
        Sources(wrong).fetch(work)
    file.unlink()
    with pytest.raises(BoxError, match=r"kimpy\.tar\.gz: No such file"):
        Sources(row, str(tmp_path)).fetch(work)


@pytest.mark.commands
def test_a_commit_is_built_from_a_served_repository_and_remembered(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "served/openkim-python"
    old = git_server.commit(repository, "old")
    new = git_server.commit(repository, "new")
    built: list[str] = []

    def run_in_tree(tree: bootstrap.Tree, work: Path, script: str) -> None:
        with tarfile.open(work / "sources.tar.gz") as sources:
            file = sources.extractfile("sources/file")
            assert file is not None
            built.append(file.read().decode())
        builder.run_in_tree(tree, work, script)

    monkeypatch.setattr(bootstrap, "run_in_tree", run_in_tree)
    made = {}
    with git_server.served(tmp_path / "served") as url:
        for commit in (old, new, old):
            sources = Sources(git_row(commit), url)
            made[commit] = wheels.wheel(NOW, "trixie", tmp_path, silent, sources=sources)
    assert built == ["old", "new"]  # once each
    assert made[old].digest != made[new].digest
    with tarfile.open(made[old].path) as modules:
        note = modules.extractfile("kimpy-2.1.4.dist-info/direct_url.json")
        assert note is not None
        assert json.load(note)["built_from"] == {"commit": old}
    # a box that has it needs neither the server, by now away, nor a build
    link = unpacked_name(KIMPY_PATH, made[old].digest)
    again = wheels.for_host("3.13", link, tmp_path, silent, sources=Sources(git_row(old)))
    assert (again.digest, len(built)) == (made[old].digest, 2)
    sha256, mine = wheels.sha256(made[old]), Sources(git_row(old))
    assert wheels.kept(sha256, "trixie", tmp_path, mine) is not None
    # the same bytes, but of another commit or of the index
    assert wheels.kept(sha256, "trixie", tmp_path) is None


def test_sources_of_something_else_are_not_kimpy(builder: Builder, tmp_path: Path) -> None:
    builder.name = "evil-1-cp313-cp313-linux_x86_64.whl"
    with pytest.raises(BoxError, match="which is not kimpy"):
        wheels.wheel(NOW, "trixie", tmp_path, silent)
