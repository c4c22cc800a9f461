"""The package layer: made once for what the archive holds, and anew when that changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.debian import apt, bootstrap
from tasks.debian import layer as layers
from tasks.debian.archive import Archive
from tasks.debian.layer import Layer, layer

NOW = Archive((), (), "digest", 1_790_000_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bootstrap.Tree]:
    """What was installed."""
    trees: list[bootstrap.Tree] = []

    def make(tree: bootstrap.Tree, file: Path) -> None:
        trees.append(tree)
        file.write_text(" ".join(tree.packages))

    monkeypatch.setattr(layers, "make", make)
    monkeypatch.setattr(apt, "require", lambda *_: None)
    return trees


def used(folder: Path, *packages: str, archive: Archive = NOW) -> tuple[Layer, str]:
    """The layer that a build went on with, and what was in it."""
    with layer(archive, "trixie", packages, folder, lambda _: None) as installed:
        return installed, installed.file.read_text()


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("layer-*.ext4"))


def test_a_layer_is_made_once(made: list[bootstrap.Tree], tmp_path: Path) -> None:
    first, content = used(tmp_path, "bash")
    second, again = used(tmp_path, "bash")
    assert content == again == "bash"
    assert kept(tmp_path) == [second.file]
    assert first.date == second.date == NOW.date
    used(tmp_path, "bash", "zsh")
    used(tmp_path, "bash", archive=Archive((), (), "another", 1_790_000_000))
    assert [tree.packages for tree in made] == [("bash",), ("bash", "zsh"), ("bash",)]
    assert all(tree.epoch == NOW.date for tree in made)
    assert len(kept(tmp_path)) == 3


def test_a_layer_outlives_the_build_that_fails(made: list[bootstrap.Tree], tmp_path: Path) -> None:
    """It was whole before that began."""

    def build() -> None:
        with layer(NOW, "trixie", ("bash",), tmp_path, lambda _: None):
            assert kept(tmp_path) == []  # not flushed yet
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build()
    assert len(kept(tmp_path)) == 1
    used(tmp_path, "bash")
    assert len(made) == 1


def test_a_layer_that_was_not_made_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(_: bootstrap.Tree, file: Path) -> None:
        file.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "make", make)
    monkeypatch.setattr(apt, "require", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        used(tmp_path, "bash")
    assert [left.suffix for left in tmp_path.iterdir()] == [".lock"]


def test_old_layers_go(made: list[bootstrap.Tree], tmp_path: Path) -> None:
    """Also those that were tar files once."""
    (tmp_path / "layer-0123456789abcdef.tar").touch()
    for number in range(6):
        used(tmp_path, f"p{number}")
    assert len(made) == 6
    assert 1 < len(kept(tmp_path)) < 6
    assert not list(tmp_path.glob("layer-*.tar"))
