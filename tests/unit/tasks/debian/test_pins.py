"""A manifest's versions: read, held against the archive, and against what was installed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.debian import bootstrap, pins
from tasks.debian.archive import Archive
from tasks.desk import shell

HERE = Archive(("deb http://m.test/debian trixie main",), (), "digest", 17)
TABLE = (
    "     bash | 5.2-1 | http://m.test/debian trixie/main amd64 Packages\n"
    "     bash | 5.2-2 | http://m.test/debian trixie-updates/main amd64 Packages\n"
    "    libc6 | 2.41-1 | http://m.test/debian trixie/main amd64 Packages\n"
)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """An apt that knows the packages of TABLE."""
    asked: list[tuple[str, ...]] = []

    def run(argv: Sequence[str], **_: object) -> shell.Completed:
        asked.append(tuple(argv))
        return shell.Completed(tuple(argv), 0, TABLE if "madison" in argv else "", "")

    monkeypatch.setattr(shell, "run", run)
    return asked


def test_a_manifest_is_read_without_architectures(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    packages = '"packages": {"bash": "5.2-1", "libc6:amd64": "2.41-1"}'
    versions = {"bash": "5.2-1", "libc6": "2.41-1"}
    file.write_text(f"{{{packages}}}")
    assert pins.read(file) == pins.Manifest(versions)
    built = '"built": {"libc6": {"source": "git", "commit": "c0ffee"}}'
    file.write_text(f"{{{packages}, {built}}}")
    assert pins.read(file) == pins.Manifest({"bash": "5.2-1"}, {"libc6": "2.41-1"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"packages": 3}', '{"packages": ["a"]}', "\xff"])
def test_what_is_no_manifest_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(os.fsencode(text) if text != "\xff" else b"\xff")
    with pytest.raises(BoxError, match="is no manifest of a box"):
        pins.read(file)


def test_a_manifest_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match=r"no\.json: No such file"):
        pins.read(tmp_path / "no.json")


def test_any_version_of_the_archive_is_to_be_had(
    apt: list[tuple[str, ...]], tmp_path: Path
) -> None:
    pins.require_available({"bash": "5.2-1", "libc6": "2.41-1"}, HERE, tmp_path)
    assert apt[-1] == ("apt-cache", "madison", "bash", "libc6")
    assert not list(tmp_path.iterdir())


def test_what_is_gone_is_named_in_one_line(apt: list[tuple[str, ...]], tmp_path: Path) -> None:
    wanted = {"bash": "5.2-0", "libc6": "2.41-1", **{f"gone{n}": "1" for n in range(8)}}
    with pytest.raises(BoxError) as caught:
        pins.require_available(wanted, HERE, tmp_path)
    line = str(caught.value)
    assert line.startswith("the archive no longer has bash 5.2-0; gone0 1; ")
    assert line.endswith(" and 4 more")
    assert "libc6" not in line
    assert apt


@pytest.mark.parametrize(
    ("installed", "line"),
    [
        ({"bash": "2"}, "bash 2, not 1"),
        ({}, "bash missing, not 1"),
        ({"bash": "1", "zsh:amd64": "3"}, "zsh 3, not in the manifest"),
    ],
)
def test_what_was_installed_must_be_the_manifests(installed: dict[str, str], line: str) -> None:
    with pytest.raises(BoxError, match=f"manifest's: {line}$"):
        pins.require_same({"bash": "1"}, installed)
    pins.require_same({"bash": "1"}, {"bash:amd64": "1"})


def test_pins_reach_apt_in_the_tree_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    seen: list[str] = []

    def run(argv: Sequence[str | Path], **_: object) -> None:
        asked.extend(map(str, argv))
        (file,) = tmp_path.glob("tree-*/pins")
        seen.append(file.read_text())
        Path(argv[argv.index("trixie") + 1]).write_bytes(b"")

    monkeypatch.setattr(shell, "run", run)
    wanted = (("bash", "5.2-1"), ("libc6", "2.41-1"))
    tree = bootstrap.Tree("trixie", ("bash",), HERE.lines, (), pins=wanted)
    bootstrap.make_tree(tmp_path / "tree.tar", tree)
    stanza = "Package: {}\nPin: version {}\nPin-Priority: 1001\n"
    assert seen == ["\n".join(stanza.format(*pin) for pin in wanted)]
    hooks = [word for word in asked if "-hook=" in word and "pins" in word]
    assert [hook.partition("=")[0] for hook in hooks] == ["--setup-hook", "--customize-hook"]
    assert 'rm "$1"/etc/apt/preferences.d/pins' in hooks[1]
