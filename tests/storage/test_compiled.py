"""Compiled parts from git: stand-ins for the real sources, built here, on a small Debian."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploys.compiled import Compiled, dropped, traces
from deploys.compiled import compiled as deploy
from deploys.errors import BoxError
from deploys.parts import Part
from tasks import compiled
from tasks.machines import archive, shell
from tasks.sources import Sources
from tests.storage.test_parts_from_git import applied
from tests.unit import git_server, own_tools

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
""",
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
endif()
""",
    "src/main.cpp": '#include <cstdio>\nint main() {{ std::puts("{version}"); }}\n',
}
LIBRARY = "usr/lib/x86_64-linux-gnu/libkim-api.so.2"


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


def built(served: Path, name: str, commit: str, kept: Path) -> Compiled:
    row = Part(source="git", location=name, version=commit)
    with git_server.served(served) as url:
        return compiled.compiled(NOW, "trixie", kept, print, None, Sources(row, url, name))


def inside(root: Path, *argv: str) -> list[str]:
    """What a command of the small Debian printed, found as its users find it."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return shell.run(["chroot", root, *argv], env=env).stdout.splitlines()


def test_a_kim_api_of_a_commit_takes_debians_place_and_gives_it_back(
    root: Path, tmp_path: Path, kept: Path
) -> None:
    served = tmp_path / "served"
    versions = ("2.3.0", "2.8.0", "2.9.1")
    commits = [commit(served / "openkim-api", KIM_API, version) for version in versions]
    debians, first, second = (built(served, "openkim-api", each, kept) for each in commits)
    shell.run(["tar", "-xf", debians.path, "-C", root / "usr"])
    (root / "usr/lib/libkim-api.so.2.3.0").rename(root / LIBRARY)
    shell.run(["chroot", root, "ldconfig"])

    def loaded(program: str = "/usr/bin/kim-api-collections-management") -> str:
        models, source = inside(root, program)
        assert source == "./sources/program.cpp"  # of no folder that a build had
        return models

    folder = "/usr/lib/x86_64-linux-gnu/kim-api/portable-models"
    assert loaded() == f"{folder} by 2.3.0"
    assert applied(root, lambda: deploy(compiled=first)) == (4, 0)
    assert loaded() == loaded("kim-api-collections-management") == f"{folder} by 2.8.0"
    assert applied(root, lambda: deploy(compiled=second)) == (1, 0)
    assert loaded() == loaded("kim-api-collections-management") == f"{folder} by 2.9.1"
    assert applied(root, lambda: dropped(names=["openkim-api", "lammps"])) == (1, 0)
    assert loaded() == loaded("kim-api-collections-management") == f"{folder} by 2.3.0"
    assert not [path for path in traces("openkim-api") if os.path.lexists(root / path[1:])]
    assert not list((root / "opt/pipeline").glob("openkim-api*"))


def test_the_lammps_of_a_commit_is_the_one_that_is_called(
    root: Path, tmp_path: Path, kept: Path
) -> None:
    served = tmp_path / "served"
    made = built(served, "lammps", commit(served / "lammps", LAMMPS, "of a commit"), kept)
    assert applied(root, lambda: deploy(compiled=made)) == (2, 0)
    assert inside(root, "lmp") == ["of a commit"]
    assert applied(root, lambda: dropped(names=["lammps"])) == (1, 0)
    assert not (root / "usr/local/bin/lmp").is_symlink()


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
    assert one.path.read_bytes() == two.path.read_bytes()


def test_sources_that_do_not_compile_end_with_what_the_compiler_said(
    tmp_path: Path, kept: Path
) -> None:
    served = tmp_path / "served"
    broken = {**LAMMPS, "src/main.cpp": "int main() {{ return nothing; }}\n"}
    made = commit(served / "lammps", broken, "1")
    with pytest.raises(BoxError, match=r"building lammps: .*main\.cpp:1:21: error: .nothing. was"):
        built(served, "lammps", made, kept)
    assert [left.name for left in kept.iterdir()] == ["lammps.lock"]
