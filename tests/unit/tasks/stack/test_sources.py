"""What kimpy is built from: the lock's sources, another version's, a file's or a commit's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deploys.errors import BoxError
from deploys.settings.part import Part
from deploys.settings.stack import DEFAULTS
from tasks.desk.places import ROOT
from tasks.stack import git, sdist
from tasks.stack.sources import Sources

LOCK = ROOT / "requirements-kimpy.txt"


def kimpy(part: Part = DEFAULTS["openkim-python"], hostname: str = "") -> Sources:
    return Sources(part, hostname, "openkim-python")


def test_the_default_is_the_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(sdist, "fetch", lambda lock, _folder: asked.append(lock))
    kimpy().fetch(tmp_path)
    assert asked == [LOCK]
    assert kimpy().identity == LOCK.read_text()
    source, _, sha256 = kimpy().origin.partition(":")
    assert (source, len(sha256), f"sha256:{sha256}" in LOCK.read_text()) == ("pip", 64, True)


def test_the_origin_of_several_projects_is_the_file_that_locks_them() -> None:
    row = Part(source="pip", location="kim-tools")
    file = ROOT / "requirements-kim-tools.txt"
    assert Sources(row, "", "kim-tools").origin == (
        f"pip:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    )


def test_another_version_is_asked_for_with_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sdist, "fetch", lambda lock, _folder: asked.append(lock.read_text()))
    other = Part(source="pip", location="kimpy", version="2.1.3", sha256="feed" * 16)
    kimpy(other).fetch(tmp_path)
    assert kimpy(other).origin == f"pip:{'feed' * 16}"
    assert asked == [f"kimpy==2.1.3 --hash=sha256:{'feed' * 16}\n"]


def test_a_file_is_held_against_its_hash(tmp_path: Path) -> None:
    file, work = tmp_path / "kimpy.tar.gz", tmp_path / "work"
    work.mkdir()
    file.write_bytes(b"sources")
    right = hashlib.sha256(b"sources").hexdigest()
    row = Part(source="file", location="kimpy.tar.gz", sha256=right)
    assert kimpy(row, str(tmp_path)).fetch(work).read_bytes() == b"sources"
    assert kimpy(row).origin == f"file:{right}"
    wrong = Part(source="file", location=str(file), sha256="feed" * 16)
    with pytest.raises(BoxError, match=f"its sha256 is {right}, not feed"):
        kimpy(wrong).fetch(work)
    file.unlink()
    with pytest.raises(BoxError, match=r"kimpy\.tar\.gz: No such file"):
        kimpy(row, str(tmp_path)).fetch(work)


@pytest.mark.parametrize(
    "part",
    [
        Part(source="git", location="/home/ada/secret", version="feed" * 10),
        Part(source="git", location="ssh://git@h/secret", version="feed" * 10),
        Part(source="file", location="/home/ada/secret.tar.gz", sha256="feed" * 16),
        Part(source="pip", location="evil", version="1", sha256="feed" * 16),
    ],
)
def test_what_only_a_host_names_is_not_fetched(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could name what the operator may read, and is run when it is built."""
    asked: list[object] = []
    monkeypatch.setattr(sdist, "fetch", lambda *words: asked.append(words))
    monkeypatch.setattr(git, "fetch", lambda *words: asked.append(words))
    with pytest.raises(BoxError, match=r"only the box names .* with your settings first"):
        Sources(part, "", "openkim-python", is_asked=False).fetch(tmp_path)
    assert (asked, list(tmp_path.iterdir())) == ([], [])
    Sources(DEFAULTS["openkim-python"], "", "openkim-python", is_asked=False).fetch(tmp_path)
    assert len(asked) == 1  # this project's own lock file names it
