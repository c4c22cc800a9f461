"""Debian's sources of the KIM API, compiled, and its LAMMPS and models with it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.errors import BoxError
from deploys.operations.onbox import ONBOX
from deploys.operations.packages import LocalPackage, present
from deploys.settings.part import Part
from deploys.settings.stack import BUILT, package_name
from tasks.debian import apt, archive, bootstrap
from tasks.desk import loop, shell
from tasks.stack import packages
from tasks.stack.sources import Sources
from tests.storage.stack.test_parts_from_git import applied
from tests.unit.tasks.stack import git_server

KNOWN = "a = 5.430950 A, E = -4.336400 eV/atom"
MODEL = "SW_StillingerWeber_1985_Si__MO_405512056662"
MODELS = "usr/lib/x86_64-linux-gnu/kim-api/portable-models"
INPUT = ONBOX / "usr/lib/pipeline/silicon.lmp"
# wget: without it or curl KIM's own program does not even list.
PACKAGES = ("lammps", "openkim-models", "libgfortran5", "wget")
# What a mirror surely has sources of is the newest; models and KIM API are to be of one series.
RELEASE = "forky"

pytestmark = pytest.mark.long


@pytest.fixture
def root(loop_disk: str, tmp_path: Path) -> Iterator[Path]:
    """A Debian with what computes."""
    assert loop_disk  # it skips where there is no root
    root, lines = tmp_path / "root", bootstrap.sources(RELEASE)
    root.mkdir()
    asked = bootstrap.Tree(RELEASE, PACKAGES, lines, bootstrap.relaxations(), lists=False)
    bootstrap.fill_folder(root, asked, tmp_path)
    with loop.chroot(root):
        (root / "dev/stdout").symlink_to("/proc/self/fd/1")  # LAMMPS prints to it
        (root / "dev/shm").mkdir()  # without it its MPI complains
        yield root


def repository(package: str, folder: Path) -> str:
    """The commit of a repository in ``folder`` that holds a Debian package's upstream sources."""
    fetched = folder.with_suffix(".fetched")
    fetched.mkdir(parents=True)
    found = archive.read(RELEASE, fetched)
    lines = tuple(line.replace("deb ", "deb-src ", 1) for line in found.lines)
    with apt._empty_system(replace(found, lines=lines), fetched) as config:
        # It fails where the mirror lacks what Debian changed: upstream's own file is enough.
        argv = ["apt-get", "source", "--download-only", package]
        shell.run(argv, env=config, cwd=fetched, timeout=900, check=False)
    (origin,) = fetched.glob(f"{package}_*.orig.tar.*")
    with tarfile.open(origin) as tar:
        tar.extractall(folder)
    (sources,) = folder.iterdir()
    for path in sources.iterdir():
        path.rename(folder / path.name)
    sources.rmdir()
    return git_server.commit(folder, package)


def inside(root: Path, *argv: str) -> str:
    return shell.run(["chroot", root, *argv], env={"HOME": "/root"}, timeout=600).stdout


def built(suite: str, folder: Path) -> LocalPackage:
    """The KIM API of that repository, for a release."""
    commit = repository("kim-api", folder / "served/openkim-api")
    row = Part(source="git", location="openkim-api", version=commit)
    with git_server.served(folder / "served") as url:
        asked = Sources(row, url, "openkim-api")
        found = archive.read(suite, folder)
        made = packages.built(asked, found, suite, folder / "kept", print)
    digest = packages.source_digest(asked, packages.PYTHONS[suite])
    return LocalPackage(package_name("openkim-api"), digest, made)


def owner(root: Path) -> str:
    """The package of the file of the KIM API that Debian's LAMMPS loads."""
    (line,) = (each for each in inside(root, "ldd", "/usr/bin/lmp").splitlines() if "kim" in each)
    found = inside(root, "dpkg", "--search", f"*{line.split()[2].removeprefix('/usr')}")
    return found.partition(":")[0]


def test_what_debian_has_computes_with_the_kim_api_of_a_commit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.PYTHONS, RELEASE, "3.14")
    made = built(RELEASE, tmp_path)
    (model,) = (path.name for path in (root / MODELS).glob(f"{MODEL}_*"))
    (root / "silicon.lmp").write_text(INPUT.read_text().replace(f"{MODEL}_005", model))

    def reference() -> str:
        return inside(root, "lmp", "-in", "/silicon.lmp", "-log", "none", "-screen", "none")

    debians = owner(root)
    assert debians == "libkim-api2"
    assert reference() == f"{KNOWN}\n"
    needs = ["lammps", "openkim-models", *BUILT["openkim-api"].needs]
    assert applied(root, lambda: present(packages=needs, local=[made])) == (1, 0)
    assert owner(root) == made.name
    assert reference() == f"{KNOWN}\n"
    assert model in inside(root, "kim-api-collections-management", "list")
    needs = ["libkim-api2", "lammps", "openkim-models"]
    assert applied(root, lambda: present(packages=needs, absent=[made.name])) == (1, 0)
    assert (reference(), owner(root)) == (f"{KNOWN}\n", debians)


def test_debian_13s_models_are_of_another_series_than_its_successors(
    loop_disk: str, tmp_path: Path
) -> None:
    assert loop_disk
    with pytest.raises(
        BoxError, match=r"make libkim-api\.so\.2\.4\..*, which cannot read the models"
    ):
        built("trixie", tmp_path)
