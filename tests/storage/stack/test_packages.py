"""Parts from git as packages: stand-ins for the real sources, built here, on a small Debian.

Beside them are stand-ins for Debian's packages, in an archive of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploys.errors import BoxError, DeployError
from deploys.facts.packages import SourceDigests
from deploys.operations.leftovers import no_prefixes
from deploys.operations.packages import LocalPackage, present
from deploys.settings.part import Part
from deploys.settings.stack import package_name
from tasks.debian import archive
from tasks.desk import shell
from tasks.stack import packages
from tasks.stack.sources import Sources
from tests.storage.stack.test_parts_from_git import applied, fact
from tests.unit.tasks.debian import own_tools
from tests.unit.tasks.stack import git_server

NOW = archive.Archive((), (), "an archive", 17)
# What the real one has: a library, and a program that asks it where the models are.
KIM_API = {
    "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.10)
project(kim-api VERSION {version} LANGUAGES CXX)
include(GNUInstallDirs)
add_library(kim-api SHARED library.cpp)
set_target_properties(kim-api PROPERTIES VERSION ${{PROJECT_VERSION}} SOVERSION {soname})
target_compile_definitions(kim-api PRIVATE MODELS="${{KIM_API_SYSTEM_PORTABLE_MODELS_DIR}}")
add_executable(kim-api-collections-management program.cpp)
target_link_libraries(kim-api-collections-management kim-api)
add_executable(kim-api-portable-model-info model.cpp)
install(TARGETS kim-api kim-api-collections-management)
install(TARGETS kim-api-portable-model-info DESTINATION ${{CMAKE_INSTALL_LIBEXECDIR}}/kim-api)
install(FILES items.cmake DESTINATION share/cmake/kim-api-items)
""",
    "items.cmake": "# what models are built with\n",
    "library.cpp": 'extern "C" const char *models() {{ return MODELS " by {version}"; }}\n',
    "program.cpp": """\
#include <cstdio>
extern "C" const char *models();
int main() {{ std::puts(models()); std::puts(__FILE__); }}
""",
    # It fails where the model that it is asked for cannot be read.
    "model.cpp": "int main(int count, char **) {{ return count == 2 ? 0 : 1; }}\n",
}
LAMMPS = {
    "cmake/CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.10)
project(lammps LANGUAGES CXX)
include(GNUInstallDirs)
if(PKG_KIM AND NOT BUILD_MPI)
  add_executable(lmp ../src/main.cpp)
  install(TARGETS lmp)
  install(FILES ../src/version.h DESTINATION share/lammps/potentials)
endif()
""",
    "src/version.h": '#define LAMMPS_VERSION "29 Aug 2024"\n',
    "src/main.cpp": '#include <cstdio>\nint main() {{ std::puts("{version}"); }}\n',
}
LIBRARIES = "usr/lib/x86_64-linux-gnu"
MANAGEMENT = "kim-api-collections-management"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what was built is kept; this machine's own compiler builds it, in no tree."""
    own_tools.build(monkeypatch)
    return tmp_path / "kept"


def commit(folder: Path, files: dict[str, str], version: str, soname: str = "2") -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(version=version, soname=soname))
    return git_server.commit(folder, version)


def built(served: Path, name: str, commit: str, kept: Path) -> LocalPackage:
    row = Part(source="git", location=name, version=commit)
    with git_server.served(served) as url:
        sources = Sources(row, url, name)
        file = packages.built(sources, NOW, "trixie", kept, print)
    return LocalPackage(package_name(name), packages.source_digest(sources, "3.13"), file)


def debian(root: Path, name: str, version: str, files: Mapping[str, Path], **fields: str) -> None:
    """A package of Debian's, to be had from an archive in the root."""
    place, folder = root / "debian", root / "debian" / name
    for path, file in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shell.run(["cp", "--archive", file, folder / path])
    (folder / "DEBIAN").mkdir(parents=True)
    said = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "x"}
    lines = "".join(f"{key}: {text}\n" for key, text in {**said, **fields}.items())
    (folder / "DEBIAN/control").write_text(f"{lines}Description: stand-in\n")
    shell.run(["dpkg-deb", "--root-owner-group", "--build", folder, place / f"{name}.deb"])
    shell.run(["rm", "-r", folder])
    content = (place / f"{name}.deb").read_bytes()
    lines += f"Description: stand-in\nFilename: ./{name}.deb\nSize: {len(content)}\n"
    with (place / "Packages").open("a") as index:
        index.write(f"{lines}SHA256: {hashlib.sha256(content).hexdigest()}\n\n")
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/debian ./\n")


def inside(root: Path, *argv: str) -> list[str]:
    """What a command of the small Debian printed, found as its users find it."""
    env = {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    return shell.run(["chroot", root, *argv], env=env).stdout.splitlines()


def having(
    *local: LocalPackage,
    packages: Sequence[str] = (),
    absent: Collection[str] = (),
    stay: Collection[str] = (),
) -> Callable[[], Any]:
    return lambda: present(packages=packages, local=local, absent=absent, stay=stay)


def is_there(root: Path, name: str) -> bool:
    argv = ["dpkg-query", "-W", "-f=${db:Status-Status}", name]
    return shell.run(["chroot", root, *argv], check=False).stdout == "installed"


def test_a_kim_api_of_a_commit_takes_debians_place_and_gives_it_back(
    root: Path, tmp_path: Path, kept: Path
) -> None:
    served = tmp_path / "served"
    versions = ("2.3.0", "2.8.0", "2.9.1")
    commits = [commit(served / "openkim-api", KIM_API, version) for version in versions]
    debians, first, second = (built(served, "openkim-api", each, kept) for each in commits)
    shell.run(["dpkg-deb", "--extract", debians.file, tmp_path / "debians"])
    library = f"{LIBRARIES}/libkim-api.so.2.3.0"
    files = {f"{LIBRARIES}/libkim-api.so.2": tmp_path / "debians" / library}
    program = {"usr/bin/of-models": tmp_path / "debians/usr/bin" / MANAGEMENT}
    debian(root, "libkim-api2", "2.3.0-1", files)
    debian(root, "openkim-models", "1:2021", program, Depends="libkim-api2 (>= 2.2.1)")
    debian(root, "libgfortran5", "14", {})
    assert applied(root, having(packages=["openkim-models"])) == (1, 0)
    shell.run(["chroot", root, "ldconfig"])  # stand-ins have no trigger

    def loaded(program: str) -> str:
        models, source = inside(root, program)
        assert source == "./sources/program.cpp"  # of no folder that a build had
        return models

    folder, needs = f"/{LIBRARIES}/kim-api/portable-models", ["openkim-models", "libgfortran5"]
    assert loaded("of-models") == f"{folder} by 2.3.0"
    assert applied(root, having(first, packages=needs)) == (1, 0)
    assert loaded("of-models") == loaded(MANAGEMENT) == f"{folder} by 2.8.0"
    assert (is_there(root, "libkim-api2"), is_there(root, "openkim-models")) == (False, True)
    assert (root / "usr/share/cmake/kim-api-items/items.cmake").exists()
    assert fact(root, SourceDigests) == {first.name: first.digest}
    assert applied(root, having(second, packages=needs)) == (1, 0)
    assert loaded("of-models") == loaded(MANAGEMENT) == f"{folder} by 2.9.1"
    # the row says none: the models stay, and so what they need is Debian's again
    back = having(absent=[second.name], stay=["openkim-models"])
    assert applied(root, back) == (1, 0)
    shell.run(["chroot", root, "ldconfig"])
    assert loaded("of-models") == f"{folder} by 2.3.0"
    assert (is_there(root, second.name), is_there(root, "openkim-models")) == (False, True)
    assert not (root / "usr/bin" / MANAGEMENT).exists()
    assert not list((root / "var/cache").glob("*.deb"))


def test_the_lammps_of_a_commit_is_there_or_debians_never_both(
    root: Path, tmp_path: Path, kept: Path
) -> None:
    served = tmp_path / "served"
    made = built(served, "lammps", commit(served / "lammps", LAMMPS, "of a commit"), kept)
    debians = tmp_path / "lmp"
    debians.write_text("#!/bin/sh\necho of Debian\n")
    debians.chmod(0o755)
    for name, files in (("lammps", {"usr/bin/lmp": debians}), ("libkim-api2", {})):
        debian(root, name, "2025", files)
    assert applied(root, having(packages=["lammps"])) == (1, 0)
    assert inside(root, "lmp") == ["of Debian"]
    ours = having(made, packages=["libkim-api2", "libstdc++6"])
    assert applied(root, ours) == (1, 0)
    assert inside(root, "lmp") == ["of a commit"]
    assert not is_there(root, "lammps")
    assert not (root / "usr/share/lammps").exists()
    # by hand, as in a snapshot: apt's own rules
    inside(root, "apt-get", "-q", "-y", "install", "lammps")
    assert (inside(root, "lmp"), is_there(root, made.name)) == (["of Debian"], False)
    assert applied(root, ours) == (1, 0)
    assert inside(root, "lmp") == ["of a commit"]
    assert applied(root, having(packages=["lammps"], absent=[made.name])) == (1, 0)
    assert inside(root, "lmp") == ["of Debian"]


@pytest.mark.parametrize("name", ["of-several", "of.one", "nosuch"])
def test_a_virtual_package_or_a_pattern_is_refused_in_one_line(name: str, root: Path) -> None:
    """apt would install what provides it, or all that matches, and the name would stay missing."""
    debian(root, "of-one", "1", {}, Provides="of-several")
    with pytest.raises(DeployError, match=f"there is no package {name}; if it is virtual, name"):
        applied(root, having(packages=[name]))
    assert not is_there(root, "of-one")


def test_what_an_older_box_had_beside_its_packages_goes(root: Path) -> None:
    modules = root / "usr/local/lib/python3.13/dist-packages"
    modules.mkdir(parents=True, exist_ok=True)
    for name in ("kimpy", "ase"):
        (modules / f"{name}.pth").write_text(f"/opt/pipeline/{name}\n")
    others = {path.name for path in (root / "opt/pipeline").glob("*")} | {"asebestos"}
    for name in ("asebestos", "kimpy", "ase", "openkim-api", "lammps"):
        (root / f"opt/pipeline/{name}-0123456789abcdef/lib").mkdir(parents=True)
        (root / "opt/pipeline" / name).symlink_to(f"{name}-0123456789abcdef")
    programs = root / "usr/local/bin"
    (programs / "lmp").symlink_to("/opt/pipeline/lammps/bin/lmp")
    (programs / MANAGEMENT).write_text("a user's own")
    conf = root / "etc/ld.so.conf.d/00-openkim-api.conf"
    conf.write_text("/opt/pipeline/openkim-api/lib\n")
    assert applied(root, partial(no_prefixes, keep_kimpy=True)) == (1, 0)
    kept = {path.name for path in (root / "opt/pipeline").iterdir()} - {*others}
    assert kept == {"asebestos-0123456789abcdef", "kimpy", "kimpy-0123456789abcdef"}
    assert [path.name for path in modules.glob("*.pth")] == ["kimpy.pth"]
    assert applied(root, no_prefixes) == (1, 0)
    left = {path.name for path in (root / "opt/pipeline").iterdir()}
    assert left == {*others, "asebestos-0123456789abcdef"}
    assert not list(modules.glob("*.pth"))
    assert not conf.exists()
    assert not (programs / "lmp").is_symlink()
    assert (programs / MANAGEMENT).read_text() == "a user's own"


def test_a_kim_api_that_cannot_read_debians_models_is_refused(tmp_path: Path, kept: Path) -> None:
    served = tmp_path / "served"
    other = {**KIM_API, "model.cpp": "int main() {{ return 1; }}\n"}
    made = commit(served / "openkim-api", other, "2.9.1")
    line = "the sources make libkim-api.so.2.9.1, which cannot read the models of Debian's"
    with pytest.raises(BoxError, match=f"^building openkim-api: {line} openkim-models here$"):
        built(served, "openkim-api", made, kept)


def test_a_kim_api_of_another_soname_is_refused(tmp_path: Path, kept: Path) -> None:
    served = tmp_path / "served"
    made = commit(served / "openkim-api", KIM_API, "3.0.0", soname="3")
    with pytest.raises(BoxError, match=r"make libkim-api\.so\.3 .*is linked to libkim-api\.so\.2$"):
        built(served, "openkim-api", made, kept)


@pytest.mark.long
def test_two_builds_are_the_same_bytes(tmp_path: Path, kept: Path) -> None:
    served = tmp_path / "served"
    made = commit(served / "openkim-api", KIM_API, "2.9.1")
    one, two = (built(served, "openkim-api", made, kept / each) for each in ("one", "two"))
    assert one.file.read_bytes() == two.file.read_bytes()


def test_sources_that_do_not_compile_end_with_what_the_compiler_said(
    tmp_path: Path, kept: Path
) -> None:
    served = tmp_path / "served"
    broken = {**LAMMPS, "src/main.cpp": "int main() {{ return nothing; }}\n"}
    made = commit(served / "lammps", broken, "1")
    with pytest.raises(BoxError, match=r"building lammps: .*main\.cpp:1:21: error: .nothing. was"):
        built(served, "lammps", made, kept)
    assert [left.name for left in kept.iterdir()] == ["lammps.lock"]
