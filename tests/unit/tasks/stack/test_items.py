"""A repository's items: gathered from a served commit, and had where the pipeline looks."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from pyinfra.context import ctx_host

from deploys.errors import BoxError
from deploys.operations import onbox
from deploys.settings.part import Part
from tasks.stack import items
from tasks.stack.sources import Sources
from tests.unit.tasks.stack import git_server

TEST = "Energy_fcc_Al__TE_000000000901_000"
MODEL = "Pair_Al__MO_000000000903_000"


def from_git(commit: str, hostname: str) -> Sources:
    part = Part(source="git", location="openkim-repository", version=commit)
    return Sources(part, hostname, "openkim-repository")


def write(repository: Path, *places: str) -> None:
    for place in places:
        folder = repository / place
        (folder / "data").mkdir(parents=True)
        (folder / "kimspec.edn").write_text(place)
        (folder / "data/kimspec.edn").write_text("the item's own")
        (folder / "runner").write_text("#!/bin/sh\n")
        (folder / "runner").chmod(0o755)


@pytest.mark.commands
def test_the_items_of_a_served_commit_are_gathered_wherever_they_lie(tmp_path: Path) -> None:
    repository = tmp_path / "served/openkim-repository"
    write(repository, f"te/{TEST}", f"mo/{MODEL}")
    commit = git_server.commit(repository, "one")
    write(repository, "te/Later_Al__TE_000000000904_000")
    later = git_server.commit(repository, "two")
    told: list[str] = []
    with git_server.served(tmp_path / "served") as url:
        made = items.items(from_git(commit, url), tmp_path / "kept", told.append)
        after = items.items(from_git(later, url), tmp_path / "kept", told.append)
    # by now the server is away
    assert (
        items.items(from_git(commit, "git://127.0.0.1:1"), tmp_path / "kept", told.append) == made
    )
    assert told == ["fetching openkim-repository"] * 2
    assert made.names == (TEST, MODEL)
    assert len(after.names) == 3
    assert after.digest != made.digest
    with tarfile.open(made.path) as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes[f"{TEST}/runner"] == 0o755
    assert modes[f"{TEST}/kimspec.edn"] == 0o644
    assert f"{MODEL}/data/kimspec.edn" in modes
    assert "file" not in modes  # beside the items


def packed(tmp_path: Path, *members: str, link: str = "") -> Sources:
    """A file's sources of these members, and a link of that name."""
    path = tmp_path / "repository.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in members:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
            tar.addfile(member)
    return at(path)


def at(path: Path) -> Sources:
    """Of a file as it is; its hash is held against it elsewhere."""

    class Untested(Sources):
        def fetch(self, _folder: Path) -> Path:
            return path

    return Untested(Part(source="none"), "", "openkim-repository")


@pytest.mark.parametrize(
    ("members", "link", "line"),
    [
        (["r/README"], "", "it holds no item"),
        (["r/kimspec.edn"], "", "r has a kimspec.edn, but its name is no KIM id"),
        ([f"r/{TEST} x/kimspec.edn"], "", "no KIM id"),
        ([f"a/{TEST}/kimspec.edn", f"b/{TEST}/kimspec.edn"], "", f"{TEST} is there twice"),
        ([f"r/{TEST}/kimspec.edn"], f"r/{TEST}/shadow", "shadow is a link"),
        ([f"r/{TEST}/kimspec.edn", f"r/{TEST}/../../x"], "", "an item holds neither"),
    ],
)
def test_what_is_no_repository_of_items_is_one_line(
    members: list[str], link: str, line: str, tmp_path: Path
) -> None:
    with pytest.raises(BoxError, match=r"^openkim-repository: ") as caught:
        items.items(packed(tmp_path, *members, link=link), tmp_path / "kept", lambda _: None)
    assert line in str(caught.value)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_file_that_is_no_archive_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(b"no archive")
    with pytest.raises(BoxError, match=r"openkim-repository: no \.tar\.gz"):
        items.items(at(file), tmp_path / "kept", lambda _: None)


class Host:
    def __init__(self, *there: str) -> None:
        self.there = set(there)

    def get_fact(self, _fact: type, folder: str) -> set[str]:
        assert folder
        return self.there

    def noop(self, _words: str) -> None: ...


def commands(source: Path, target: Path, *there: str) -> list[str]:
    with ctx_host.use(Host(*there)):
        found = onbox.items._inner(names=(TEST, MODEL), source=str(source), target=str(target))
        return [str(command) for command in found]


@pytest.mark.commands
def test_what_is_missing_is_copied_and_what_is_there_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "a source", tmp_path / "a target"
    write(source, TEST, MODEL)
    target.mkdir()
    (target / TEST).mkdir()
    (target / ".part-provision").mkdir()  # a power cut left it
    (command,) = commands(source, target, TEST)
    subprocess.run(["sh", "-c", command], check=True)
    assert sorted(path.name for path in target.iterdir()) == [TEST, MODEL]
    assert list((target / TEST).iterdir()) == []
    assert (target / MODEL / "runner").stat().st_mode & 0o777 == 0o755
    assert commands(source, target, TEST, MODEL) == []
