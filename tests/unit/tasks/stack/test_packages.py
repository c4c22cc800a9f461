"""Packages of our making: built once for what they are made of, the same bytes each time."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from deploys.errors import BoxError
from deploys.settings.part import Part
from deploys.settings.stack import DEFAULTS
from tasks.debian import apt, archive, bootstrap, cage, deb
from tasks.desk import shell
from tasks.stack import git, packages, sdist
from tasks.stack.sources import Sources
from tests.unit.tasks.stack import git_server

MIRROR = ("deb http://m.test/debian trixie main",)
NOW = archive.Archive(MIRROR, (), "an archive", 17)
LATER = replace(NOW, digest="the archive later")
COMMIT = "c0ffee" * 6 + "c0de"
KIMPY = Sources(DEFAULTS["openkim-python"], "", "openkim-python")
MODULES = "usr/lib/python3/dist-packages"

pytestmark = pytest.mark.commands


def of_commit(name: str, commit: str = COMMIT, hostname: str = "/srv") -> Sources:
    return Sources(Part(source="git", location=name, version=commit), hostname, name)


@dataclass
class Builder:
    """Stands in for apt, the package index, git and mmdebstrap: these files come of all sources."""

    files: tuple[str, ...] = (f"{MODULES}/kimpy/__init__.py",)
    links: dict[str, str] = field(default_factory=dict)
    made: str = "kimpy-2.1.4-cp313-cp313-linux_x86_64.whl"
    tools: dict[str, str] = field(default_factory=lambda: {"g++": "14.2"})
    fault: BaseException | None = None
    asked: int = 0
    trees: list[bootstrap.Tree] = field(default_factory=list)

    def resolved(
        self,
        _packages: Sequence[str],
        _archive: archive.Archive,
        _folder: Path,
        pins: Mapping[str, str] | None,
    ) -> dict[str, str]:
        self.asked += 1
        return {**self.tools, **(pins or {})}

    def run_in_tree(self, tree: bootstrap.Tree, work: Path, _script: str) -> None:
        self.trees.append(tree)
        if self.fault:
            raise self.fault
        for name in self.files:
            (work / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "out" / name).write_text(name)
        for name, target in self.links.items():
            (work / "out" / name).symlink_to(target)
        (work / "out").mkdir(exist_ok=True)
        (work / "out/made").write_text(f"{self.made}\n")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    monkeypatch.setattr(apt, "resolved", builder.resolved)
    monkeypatch.setattr(cage, "run_in_tree", builder.run_in_tree)
    monkeypatch.setattr(sdist, "fetch", lambda *_: None)
    monkeypatch.setattr(git, "fetch", lambda *_: None)
    return builder


def silent(_step: str) -> None: ...


def made(
    folder: Path,
    found: archive.Archive = NOW,
    sources: Sources = KIMPY,
    pins: Mapping[str, str] | None = None,
    wanted: str = "",
) -> Path:
    return packages.built(sources, found, "trixie", folder, silent, pins, wanted)


def fields(package: Path) -> dict[str, str]:
    said = shell.run(["dpkg-deb", "--field", package]).stdout
    return dict(line.split(": ", 1) for line in said.splitlines())


def links(package: Path) -> dict[str, str]:
    """The symbolic links in a package, with their targets."""
    table = shell.run(["dpkg-deb", "--contents", package]).stdout.splitlines()
    rows = (line.split(" ./", 1)[1].split(" -> ") for line in table if line.startswith("l"))
    return {row[0]: row[1] for row in rows}


def test_it_is_built_once_and_apt_asked_once(builder: Builder, tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path) == first
    assert (builder.asked, len(builder.trees)) == (1, 1)
    assert builder.trees[0].mirror == MIRROR


def test_an_archive_with_the_same_tools_makes_no_other(builder: Builder, tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path, LATER) == first
    assert (builder.asked, len(builder.trees)) == (2, 1)


def test_another_tool_is_another_version_that_a_host_does_not_need(
    builder: Builder, tmp_path: Path
) -> None:
    first = fields(made(tmp_path))
    builder.tools["g++"] = "14.3"
    second = fields(made(tmp_path, LATER))
    assert first["Version"] != second["Version"]
    digest = packages.source_digest(KIMPY, "3.13")
    assert {each["Pipeline-Source-Digest"] for each in (first, second)} == {digest}


def test_a_manifests_versions_are_among_the_tools(builder: Builder, tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path, pins={"g++": "14.1"}) != first
    assert builder.trees[1].pins == (("g++", "14.1"),)


def test_a_build_of_before_is_found_by_its_version(builder: Builder, tmp_path: Path) -> None:
    old = made(tmp_path)
    builder.tools["g++"] = "14.3"
    new = made(tmp_path, LATER)
    assert made(tmp_path, LATER, wanted=deb.field(old, "Version")) == old
    assert made(tmp_path, LATER, wanted="2.1.4+pipeline.0123456789ab") == new
    other = of_commit("openkim-python")
    assert made(tmp_path, LATER, other, wanted=deb.field(old, "Version")) not in (old, new)


def test_the_same_is_the_same_bytes(builder: Builder, tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert len(builder.trees) == 2


def test_kimpy_says_what_it_is_and_what_it_runs_with(builder: Builder, tmp_path: Path) -> None:
    package = made(tmp_path)
    said = fields(package)
    upstream, _, build = said.pop("Version").partition("+pipeline.")
    assert (upstream, len(build), int(build, 16) > 0) == ("2.1.4", 12, True)
    assert said["Package"] == "pipeline-openkim-python"
    assert said["Provides"] == "python3-kimpy (= 2.1.4)"
    needs = said["Depends"].split(", ")
    assert {"libkim-api2", "python3 (>= 3.13)", "python3 (<< 3.14)"} <= set(needs)
    origin, _, sha256 = said["Pipeline-Origin"].partition(":")
    assert (origin, len(sha256)) == ("pip", 64)
    scripts = shell.run(["dpkg-deb", "--info", package, "postinst"]).stdout
    assert "py3compile -p pipeline-openkim-python" in scripts
    assert builder.asked == 1


def test_a_kim_api_stands_for_debians_and_has_its_library_found(
    builder: Builder, tmp_path: Path
) -> None:
    folder = "usr/lib/x86_64-linux-gnu"
    builder.files = ("usr/bin/kim-api-collections-management", f"{folder}/libkim-api.so.2.9.1")
    builder.links = {f"{folder}/libkim-api.so.2": "libkim-api.so.2.9.1"}
    builder.made = "libkim-api.so.2.9.1 libkim-api.so.2"
    package = made(tmp_path, sources=of_commit("openkim-api"))
    said = fields(package)
    assert said["Provides"] == "libkim-api2 (= 2.9.1), libkim-api-dev (= 2.9.1)"
    assert said["Conflicts"] == said["Replaces"] == "libkim-api2, libkim-api-dev"
    assert (said["Pipeline-Origin"], "python3" in said["Depends"]) == (f"git:{COMMIT}", False)
    assert links(package)[f"{folder}/libkim-api.so.2"] == "libkim-api.so.2.9.1"
    triggers = shell.run(["dpkg-deb", "--info", package, "triggers"]).stdout
    assert triggers == "activate-noawait ldconfig\n"


@pytest.mark.parametrize(
    ("wheel", "version"),
    [
        ("ase-3.25.0-py3-none-any.whl", "3.25.0"),
        ("ase-3.26.0b1-py3-none-any.whl", "3.26.0~b1"),
        ("ase-3.26.0.dev3+g1234_x-py3-none-any.whl", "3.26.0~dev3+g1234.x"),
    ],
)
def test_what_python_calls_a_version_is_one_of_debians(
    wheel: str, version: str, builder: Builder, tmp_path: Path
) -> None:
    builder.made = wheel
    said = fields(made(tmp_path, sources=of_commit("ase")))
    assert said["Version"].partition("+pipeline.")[0] == version
    assert said["Architecture"] == "all"
    shell.run(["dpkg", "--validate-version", said["Version"]])


@pytest.mark.parametrize("fault", [BoxError("no room"), KeyboardInterrupt()])
def test_a_build_that_ends_early_leaves_nothing(
    fault: BaseException, builder: Builder, tmp_path: Path
) -> None:
    builder.fault = fault
    with pytest.raises(type(fault)):
        made(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["openkim-python.lock"]
    builder.fault = None
    assert made(tmp_path).exists()


_MANAGEMENT = "usr/bin/kim-api-collections-management"


@pytest.mark.parametrize(
    ("name", "files", "line", "told"),
    [
        ("lammps", ("usr/bin/lmp_serial",), "", "the sources make no program lmp"),
        (
            "openkim-api",
            (_MANAGEMENT,),
            "libkim-api.so.3",
            "make libkim-api.so.3, and other software of a box is linked to libkim-api.so.2",
        ),
        (
            "openkim-api",
            (_MANAGEMENT,),
            "",
            "the sources make no libkim-api.so, and other software of a box is linked to",
        ),
        ("openkim-python", (), "evil-1-cp313-cp313-linux_x86_64.whl", "which is not kimpy"),
        ("openkim-python", (), "kimpy-1-cp312-cp312-x.whl", "which is not for Python 3.13"),
        ("ase", (), "ase-3.25.0-cp313-cp313-x.whl", "which is not pure Python"),
        (
            "openkim-kimcalculator-ase",
            (f"{MODULES}/ase/__init__.py",),
            "kimcalculator-1-py3-none-any.whl",
            "the sources bring ase itself: name them in stack.ase",
        ),
    ],
)
def test_sources_of_something_else_are_refused(
    name: str, files: tuple[str, ...], line: str, told: str, builder: Builder, tmp_path: Path
) -> None:
    builder.files, builder.made = files, line
    with pytest.raises(BoxError) as caught:
        made(tmp_path, sources=of_commit(name))
    assert str(caught.value).startswith(f"building {name}: ")
    assert told in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == [f"{name}.lock"]


def test_a_commit_is_built_from_a_served_repository_and_remembered(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(apt, "resolved", builder.resolved)
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

    monkeypatch.setattr(cage, "run_in_tree", run_in_tree)
    with git_server.served(tmp_path / "served") as url:
        packages = {
            commit: made(tmp_path, sources=of_commit("openkim-python", commit, url))
            for commit in (old, new, old)
        }
    assert built == ["old", "new"]  # once each
    assert [fields(packages[each])["Pipeline-Origin"] for each in (old, new)] == [
        f"git:{old}",
        f"git:{new}",
    ]
