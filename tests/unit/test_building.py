"""Which wheel of kimpy a build takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from deploys.box import Parts
from deploys.compiled import Compiled
from deploys.errors import BoxError
from deploys.modules import Modules
from tasks import compiled, wheels
from tasks.building import Build, packages
from tasks.machines.archive import Archive
from tasks.machines.pins import Manifest
from tasks.settings import load
from tasks.sources import Sources

FOUND = Archive((), (), "digest", 17)
KEPT = Modules(Path("kept"), "d", "3.13")
MADE = Modules(Path("made"), "d", "3.13")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The versions that wheels were built with; the one kept is ``feed``, one built ``beef``."""
    built: list[object] = []

    def wheel(
        _archive: Archive, _suite: str, _folder: Path, _step: object, pins: object, _: object
    ) -> Modules:
        built.append(pins)
        return MADE

    monkeypatch.setattr(wheels, "wheel", wheel)
    monkeypatch.setattr(wheels, "kept", lambda sha, *_: KEPT if sha == "feed" else None)
    monkeypatch.setattr(wheels, "sha256", lambda _: "beef")
    return built


def chosen(manifest: Manifest | None, *overrides: str) -> Modules | None:
    progress: Any = type("Silent", (), {"step": None})
    build = Build(load(None, overrides), Path("box.raw"), cast(Any, progress), None)
    return build._wheel(FOUND, manifest)


def test_without_a_manifest_it_is_built(builds: list[object]) -> None:
    assert chosen(None) == MADE
    assert chosen(None, "stack.openkim-python.source=none") is None
    assert builds == [None]


def test_a_manifests_wheel_is_taken_if_it_was_kept(builds: list[object]) -> None:
    assert chosen(Manifest({"g++": "1"}, "feed")) == KEPT
    assert builds == []


def test_a_manifests_wheel_is_built_again_with_its_versions(builds: list[object]) -> None:
    assert chosen(Manifest({"g++": "1"}, "beef")) == MADE
    assert builds == [{"g++": "1"}]


@pytest.mark.parametrize(
    ("manifest", "overrides"),
    [
        (Manifest({}, "another"), []),
        (Manifest({}, ""), []),
        (Manifest({}, "feed"), ["stack.openkim-python.source=none"]),
    ],
)
def test_another_wheel_than_the_manifests_ends_the_build(
    manifest: Manifest, overrides: list[str], builds: list[object]
) -> None:
    with pytest.raises(BoxError, match="the manifest's"):
        chosen(manifest, *overrides)
    assert len(builds) < 2


def test_a_role_brings_its_packages() -> None:
    assert "beanstalkd" in packages(load(None, ["role=gateway"]))
    assert "beanstalkd" not in packages(load())


def test_what_is_compiled_is_so_with_the_manifests_versions(
    builds: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Compiled(Path("prefix"), "d", "lammps")
    asked: list[object] = []

    def compile_it(*arguments: object) -> Compiled:
        asked.extend(arguments[-2:])
        return made

    monkeypatch.setattr(compiled, "compiled", compile_it)
    commit = "c0ffee" * 6 + "c0de"
    rows = [f"stack.lammps.{row}" for row in ("source=git", "location=/x", f"version={commit}")]
    settings = load(None, [*rows, "stack.openkim-python.source=none"])
    progress: Any = type("Silent", (), {"step": None})
    build = Build(settings, Path("box.raw"), cast(Any, progress), None)
    assert build._parts(FOUND, Manifest({"g++": "1"}, "")) == Parts(compiled=(made,))
    assert asked == [{"g++": "1"}, Sources.of(settings, "lammps")]
    assert builds == []
