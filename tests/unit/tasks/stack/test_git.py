"""A commit's files, from real repositories over git's protocol and by path."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.stack import git
from tests.unit.tasks.stack import git_server

pytestmark = pytest.mark.commands


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with git_server.served(tmp_path) as url:
        yield f"{url}/kimpy"


def content(tar: Path) -> dict[str, str]:
    with tarfile.open(tar) as packed:
        files = {member.name: packed.extractfile(member) for member in packed if member.isfile()}
        return {name: file.read().decode() for name, file in files.items() if file}


def test_any_commit_of_a_branch_is_had_and_no_other(url: str, tmp_path: Path) -> None:
    repository = tmp_path / "kimpy"
    old = git_server.commit(repository, "old")
    new = git_server.commit(repository, "new")
    tar = git.fetch(url, old, tmp_path / "old.tar.gz")
    assert content(tar) == {"sources/file": "old"}
    assert content(git.fetch(url, new, tmp_path / "n.tar.gz")) == {"sources/file": "new"}
    by_path = git.fetch(str(repository), old, tmp_path / "again.tar.gz")
    assert by_path.read_bytes() == tar.read_bytes()
    assert not list(tmp_path.glob(".git-*"))


def test_a_server_that_names_only_branches_serves_what_they_hold(tmp_path: Path) -> None:
    """The old protocol, in which a commit that no branch ends with cannot be asked for."""
    repository = tmp_path / "kimpy"
    old = git_server.commit(repository, "old")
    git_server.commit(repository, "new")
    git_server.run(repository, "update-server-info")
    with pytest.MonkeyPatch.context() as patch, git_server.served(tmp_path) as url:
        for name, value in {"COUNT": "1", "KEY_0": "protocol.version", "VALUE_0": "0"}.items():
            patch.setenv(f"GIT_CONFIG_{name}", value)
        tar = git.fetch(f"{url}/kimpy", old, tmp_path / "old.tar.gz")
    assert content(tar) == {"sources/file": "old"}


def test_a_commit_that_is_not_there_is_one_line(url: str, tmp_path: Path) -> None:
    git_server.commit(tmp_path / "kimpy", "one")
    with pytest.raises(BoxError, match=f"^{url} has no commit {'a' * 40}$"):
        git.fetch(url, "a" * 40, tmp_path / "x.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_tag_is_no_commit(url: str, tmp_path: Path) -> None:
    repository = tmp_path / "kimpy"
    git_server.commit(repository, "one")
    git_server.run(repository, "tag", "--annotate", "--message=v1", "v1")
    tag = git_server.run(repository, "rev-parse", "v1")
    with pytest.raises(BoxError, match="has no commit"):
        git.fetch(url, tag, tmp_path / "x.tar.gz")


@pytest.mark.parametrize("place", ["no-such-repository", "ext::touch hacked"])
def test_what_cannot_be_fetched_is_one_line(place: str, url: str, tmp_path: Path) -> None:
    asked = place if "::" in place else url.replace("kimpy", place)
    with pytest.raises(BoxError, match="cannot be fetched: ") as caught:
        git.fetch(asked, "a" * 40, tmp_path / "x.tar.gz")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hacked").exists()
