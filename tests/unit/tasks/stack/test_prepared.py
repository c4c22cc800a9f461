"""What a host's stack needs beside Debian's packages: nothing that it has is built again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest

from deploys.errors import BoxError, PreflightError
from deploys.operations.packages import LocalPackage
from deploys.settings.stack import package_name
from deploys.stack import Parts
from tasks.boxes.build import packages
from tasks.debian import archive, bootstrap, deb
from tasks.debian.pins import Manifest
from tasks.desk import shell
from tasks.desk.flags import load
from tasks.stack import Prepared, prepared
from tasks.stack import packages as debs
from tasks.stack.sources import Sources

MIRROR = ("deb http://m.test/debian trixie main",)
NOW = archive.Archive(MIRROR, (), "an archive", 17)
COMMIT = "c0ffee" * 6 + "c0de"
KIMPY = package_name("openkim-python")
MADE = Path("made.deb")


def of_git(name: str) -> tuple[str, ...]:
    rows = ("source=git", f"location=/srv/{name}", f"version={COMMIT}")
    return tuple(f"stack.{name}.{row}" for row in rows)


NO_KIMPY = ("stack.openkim-python.source=none",)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What was built on a machine that can: the part, its release, the pins, the build wanted."""
    found: list[tuple[object, ...]] = []

    def build(
        sources: Sources,
        _archive: archive.Archive,
        suite: str,
        _folder: Path,
        _progress: object,
        pins: Mapping[str, str] | None,
        wanted: str,
    ) -> Path:
        found.append((sources.name, suite, pins, wanted))
        return MADE

    monkeypatch.setattr(debs, "built", build)
    monkeypatch.setattr(deb, "field", lambda *_: "2.1.4+pipeline.beef")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shell, "find", str)
    monkeypatch.setattr(bootstrap, "sources", lambda _: MIRROR)
    monkeypatch.setattr(archive, "read", lambda *_: NOW)
    return found


def asked(
    folder: Path,
    *overrides: str,
    python: str = "3.13",
    installed: Mapping[str, str] | None = None,
    build: bool = True,
    wanted: Manifest | None = None,
) -> Prepared:
    settings, has = load(None, overrides), installed or {}
    return prepared(settings, python, has, folder, lambda _: None, build=build, wanted=wanted)


def digest(name: str, python: str = "3.13", *overrides: str) -> str:
    return debs.source_digest(Sources.of(load(None, overrides), name), python)


def test_kimpy_is_built_for_a_hosts_python(built: list[tuple[object, ...]], tmp_path: Path) -> None:
    for python, suite in (("3.13", "trixie"), ("3.11", "bookworm")):
        package = LocalPackage(KIMPY, digest("openkim-python", python), MADE)
        assert asked(tmp_path, python=python) == Prepared(Parts((package,)))
        assert built.pop() == ("openkim-python", suite, None, "")


def test_a_host_that_has_it_needs_no_build(built: list[tuple[object, ...]], tmp_path: Path) -> None:
    has = {KIMPY: digest("openkim-python")}
    (package,) = asked(tmp_path / "none", installed=has).parts.packages
    assert (package.digest, built) == (has[KIMPY], [])
    assert not (tmp_path / "none").exists()
    (package,) = asked(tmp_path, installed={KIMPY: "feed"}).parts.packages
    assert (package.file, len(built)) == (MADE, 1)


def test_a_dry_run_builds_none(built: list[tuple[object, ...]], tmp_path: Path) -> None:
    (package,) = asked(tmp_path, build=False).parts.packages
    assert (package.name, built, list(tmp_path.iterdir())) == (KIMPY, [], [])


def test_what_is_left_out_is_not_built(built: list[tuple[object, ...]], tmp_path: Path) -> None:
    assert asked(tmp_path, *NO_KIMPY) == asked(tmp_path, "stack=none") == Prepared(Parts())
    assert built == []


def test_python_alone_is_the_same_for_every_host(
    built: list[tuple[object, ...]], tmp_path: Path
) -> None:
    rows = (*NO_KIMPY, *of_git("ase"))
    made = [asked(tmp_path, *rows, python=each) for each in ("3.10", "3.12", "3.13")]
    assert made[0] == made[1] == made[2]
    assert {row[:2] for row in built} == {("ase", "trixie")}


def test_a_row_pins_what_others_are_built_with(
    built: list[tuple[object, ...]], tmp_path: Path
) -> None:
    asked(tmp_path, "stack.openkim-api.version=2.3.0-1")
    assert built == [("openkim-python", "trixie", {"libkim-api2": "2.3.0-1"}, "")]


def test_a_host_for_which_none_can_be_built_does_without_kimpy_alone(
    built: list[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lammps = (*NO_KIMPY, *of_git("lammps"))

    def refused(python: str = "3.13") -> str:
        found = asked(tmp_path, python=python)
        assert found.parts == Parts()
        assert set(found.left_out) == {"openkim-python"}
        why = found.left_out["openkim-python"]
        with pytest.raises(PreflightError, match=re.escape(f"lammps cannot be built here: {why}")):
            asked(tmp_path, *lammps, python=python)
        return why

    assert "has Python 3.12" in refused("3.12")
    monkeypatch.setattr(bootstrap, "sources", lambda _: ())
    assert "no Debian mirror" in refused()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in refused()
    gone = shell.CommandError("mmdebstrap is not installed", ())
    monkeypatch.setattr(shell, "find", Mock(side_effect=gone))
    assert refused() == "mmdebstrap is not installed"  # with sudo it would not be either
    assert built == []


def test_a_manifests_builds_are_asked_for(built: list[tuple[object, ...]], tmp_path: Path) -> None:
    version = "2.1.4+pipeline.beef"
    found = asked(tmp_path, wanted=Manifest({"g++": "1"}, {KIMPY: version}))
    assert [each.file for each in found.parts.packages] == [MADE]
    assert built == [("openkim-python", "trixie", {"g++": "1"}, version)]


@pytest.mark.parametrize(
    ("had", "overrides", "line"),
    [
        (
            {KIMPY: "2.1.4+pipeline.feed"},
            (),
            f"{KIMPY} 2.1.4.pipeline.beef, not 2.1.4.pipeline.feed",
        ),
        ({}, (), "not in the manifest"),
        ({KIMPY: "2.1.4+pipeline.beef"}, NO_KIMPY, f"{KIMPY} missing, not 2.1.4"),
    ],
)
def test_another_build_than_the_manifests_is_refused(
    had: dict[str, str],
    overrides: tuple[str, ...],
    line: str,
    built: list[tuple[object, ...]],
    tmp_path: Path,
) -> None:
    with pytest.raises(BoxError, match=line):
        asked(tmp_path, *overrides, wanted=Manifest({}, had))
    assert len(built) < 2


def test_a_role_brings_its_packages() -> None:
    assert "postgresql" in packages(load(None, ["role=gateway"]))
    assert "postgresql" not in packages(load())
