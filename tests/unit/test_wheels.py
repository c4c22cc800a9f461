"""Wheels: built once for what they are made of, and never for a host that has one."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from deploys.errors import BoxError
from deploys.modules import KIMPY_PATH
from deploys.operations.onbox import unpacked_name
from deploys.parts import Part
from tasks import recipes, wheels
from tasks.machines import apt, archive, bootstrap, gitsource, sdist, shell
from tasks.sources import Sources

MIRROR = ("deb http://m.test/debian trixie main",)
NOW = archive.Archive(MIRROR, (), "an archive", 17)
LATER = replace(NOW, digest="the archive later")
NAME = "kimpy-2.1.4-cp313-cp313-linux_x86_64.whl"


@dataclass
class Builder:
    """Stands in for apt, the package index and mmdebstrap."""

    tools: dict[str, str] = field(default_factory=lambda: {"g++": "14.2"})
    name: str = NAME
    fault: BaseException | None = None
    asked: int = 0
    trees: list[bootstrap.Tree] = field(default_factory=list)

    def resolved(
        self,
        packages: Sequence[str],
        _archive: archive.Archive,
        _folder: Path,
        pins: Mapping[str, str] | None,
    ) -> dict[str, str]:
        assert "python3-setuptools" in packages
        self.asked += 1
        return {**self.tools, **(pins or {})}

    def run_in_tree(self, tree: bootstrap.Tree, work: Path, _script: str) -> None:
        self.trees.append(tree)
        if self.fault:
            raise self.fault
        (work / "out").mkdir()
        with zipfile.ZipFile(work / "out" / self.name, "w") as wheel:
            member = zipfile.ZipInfo("kimpy/__init__.py")
            wheel.writestr(member, f"made_with = {self.tools}")
            wheel.writestr(zipfile.ZipInfo("kimpy-2.1.4.dist-info/METADATA"), "Name: kimpy")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    monkeypatch.setattr(apt, "resolved", builder.resolved)
    monkeypatch.setattr(bootstrap, "run_in_tree", builder.run_in_tree)
    monkeypatch.setattr(sdist, "fetch", lambda *_: None)
    return builder


def silent(_step: str) -> None: ...


def made(folder: Path, found: archive.Archive = NOW) -> Path:
    return wheels.wheel(found, "trixie", folder, silent).path


def test_it_is_built_once_and_apt_asked_once(builder: Builder, tmp_path: Path) -> None:
    first = wheels.wheel(NOW, "trixie", tmp_path, silent)
    assert wheels.wheel(NOW, "trixie", tmp_path, silent) == first
    assert (builder.asked, len(builder.trees)) == (1, 1)
    assert (first.python, builder.trees[0].mirror) == ("3.13", MIRROR)


def test_an_archive_with_the_same_tools_makes_no_other(builder: Builder, tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path, LATER) == first
    assert (builder.asked, len(builder.trees)) == (2, 1)


def test_another_tool_makes_another(builder: Builder, tmp_path: Path) -> None:
    first = wheels.wheel(NOW, "trixie", tmp_path, silent)
    builder.tools["g++"] = "14.3"
    second = wheels.wheel(LATER, "trixie", tmp_path, silent)
    assert wheels.sha256(first) != wheels.sha256(second)
    assert first.digest == second.digest  # of a host that has either nothing more is asked


def test_a_manifests_versions_are_among_the_tools(builder: Builder, tmp_path: Path) -> None:
    pins = {"g++": "14.1"}
    first = made(tmp_path)
    assert wheels.wheel(NOW, "trixie", tmp_path, silent, pins).path != first
    assert builder.trees[1].pins == (("g++", "14.1"),)


def test_the_modules_carry_the_wheel_they_are_from(builder: Builder, tmp_path: Path) -> None:
    kimpy = wheels.wheel(NOW, "trixie", tmp_path, silent)
    with tarfile.open(kimpy.path) as tar:
        note = tar.extractfile("kimpy-2.1.4.dist-info/direct_url.json")
        assert note is not None
        record = json.load(note)
        assert "kimpy/__init__.py" in tar.getnames()
    wheel = kimpy.path.with_name(NAME)
    assert record == {
        "url": f"file:///{NAME}",
        "archive_info": {"hashes": {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}},
    }
    assert builder.asked == 1


def test_the_same_wheel_is_the_same_bytes(builder: Builder, tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert len(builder.trees) == 2


@pytest.mark.parametrize("fault", [BoxError("no room"), KeyboardInterrupt()])
def test_a_build_that_ends_early_leaves_nothing(
    fault: BaseException, builder: Builder, tmp_path: Path
) -> None:
    builder.fault = fault
    with pytest.raises(type(fault)):
        made(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["kimpy.lock"]
    builder.fault = None
    assert made(tmp_path).exists()


def test_a_wheel_for_another_python_is_refused(builder: Builder, tmp_path: Path) -> None:
    builder.name = NAME.replace("cp313", "cp312")
    with pytest.raises(BoxError, match=r"cp312.* is not for Python 3\.13"):
        made(tmp_path)


def test_a_wheel_that_was_built_once_is_found_by_its_hash(builder: Builder, tmp_path: Path) -> None:
    old = wheels.wheel(NOW, "trixie", tmp_path, silent)
    builder.tools["g++"] = "14.3"
    made(tmp_path, LATER)
    assert wheels.kept(wheels.sha256(old), "trixie", tmp_path) == old
    assert wheels.kept("feed", "trixie", tmp_path) is None


PURE = "ase-3.25.0-py3-none-any.whl"
ASE = Sources(Part(source="git", location="/srv/ase", version="c0ffee" * 6 + "c0de"), name="ase")


@pytest.fixture
def machine(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """A machine on which a wheel can be built."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shell, "find", str)
    monkeypatch.setattr(bootstrap, "sources", lambda _: MIRROR)
    monkeypatch.setattr(archive, "read", lambda *_: NOW)
    return builder


def test_a_host_that_has_it_needs_no_wheel(machine: Builder, tmp_path: Path) -> None:
    first = wheels.for_host("3.13", None, tmp_path, silent)
    link = unpacked_name(KIMPY_PATH, first.digest)
    again = wheels.for_host("3.13", link, tmp_path / "none", silent)
    assert (again.digest, machine.asked) == (first.digest, 1)
    assert not (tmp_path / "none").exists()
    assert wheels.for_host("3.13", "kimpy-0123", tmp_path, silent) == first


def test_python_alone_is_built_once_for_every_python(
    machine: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.name = PURE
    monkeypatch.setattr(gitsource, "fetch", lambda *_: None)
    made = [wheels.for_host(each, None, tmp_path, silent, sources=ASE) for each in ("3.10", "3.13")]
    assert [(each.python, each.name) for each in made] == [("3.10", "ase"), ("3.13", "ase")]
    assert (made[0].path, made[0].digest) == (made[1].path, made[1].digest)
    (tree,) = machine.trees
    assert (tree.suite, "g++" in tree.packages) == ("trixie", False)
    link = unpacked_name("/opt/pipeline/ase", made[0].digest)
    assert wheels.for_host("3.12", link, tmp_path / "none", silent, sources=ASE).python == "3.12"


def test_what_is_compiled_is_refused_where_python_alone_is_asked(
    machine: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.name = "ase-3.25.0-cp313-cp313-linux_x86_64.whl"
    monkeypatch.setattr(gitsource, "fetch", lambda *_: None)
    with pytest.raises(BoxError, match=r"building ase: .*, which is not of Python alone"):
        wheels.for_host("3.13", None, tmp_path, silent, sources=ASE)


def test_a_dry_run_builds_none(machine: Builder, tmp_path: Path) -> None:
    assert wheels.for_host("3.11", None, tmp_path, silent, build=False).python == "3.11"
    assert (machine.asked, list(tmp_path.iterdir())) == (0, [])


def test_where_none_can_be_built_the_line_says_why(
    machine: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(python: str = "3.13") -> str:
        with pytest.raises(recipes.UnavailableError) as caught:
            wheels.for_host(python, None, tmp_path, silent)
        return str(caught.value)

    assert "has Python 3.12" in refused("3.12")
    monkeypatch.setattr(bootstrap, "sources", lambda _: ())
    assert "no Debian mirror" in refused()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in refused()
    assert machine.asked == 0
