"""Debian's sources of the KIM API, compiled, and its LAMMPS, models, ASE and kimpy with it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.compiled import compiled as deploy
from deploys.compiled import dropped
from deploys.modules import modules
from deploys.onbox import tree
from deploys.operations import onbox
from deploys.operations.onbox import unpacked_name
from deploys.parts import Part
from tasks import compiled, wheels
from tasks.machines import apt, archive, bootstrap, loop, shell
from tasks.places import BUNDLES
from tasks.sources import Sources
from tests.storage.test_parts_from_git import applied
from tests.unit import git_server

KNOWN = "a = 5.430950 A, E = -4.336400 eV/atom"
MODEL = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
# wget: without it or curl KIM's own program does not even list.
PACKAGES = ("lammps", "openkim-models", "python3-ase", "libgfortran5", "wget")
# A mirror may lack the sources of a release that is no longer the newest.
RELEASES = ("trixie", "forky")

pytestmark = pytest.mark.long


@pytest.fixture
def root(loop_disk: str, tmp_path: Path) -> Iterator[Path]:
    """A Debian with what computes."""
    assert loop_disk  # it skips where there is no root
    root, lines = tmp_path / "root", bootstrap.sources()
    root.mkdir()
    asked = bootstrap.Tree("trixie", PACKAGES, lines, bootstrap.relaxations(), lists=False)
    bootstrap.fill_folder(root, asked, tmp_path)
    with loop.chroot(root):
        yield root


def repository(package: str, folder: Path) -> str:
    """The commit of a repository in ``folder`` that holds a Debian package's upstream sources."""
    fetched = folder.with_suffix(".fetched")
    fetched.mkdir(parents=True)
    for release in RELEASES:
        found = archive.read(release, fetched)
        lines = tuple(line.replace("deb ", "deb-src ", 1) for line in found.lines)
        with apt._empty_system(replace(found, lines=lines), fetched) as config:
            argv = ["apt-get", "source", "--download-only", package]
            shell.run(argv, env=config, cwd=fetched, timeout=900, check=False)
        if origins := sorted(fetched.glob(f"{package}_*.orig.tar.*")):
            break
    with tarfile.open(origins[-1]) as tar:
        tar.extractall(folder, filter="data")
    (sources,) = folder.iterdir()
    for path in sources.iterdir():
        path.rename(folder / path.name)
    sources.rmdir()
    return git_server.commit(folder, package)


def inside(root: Path, *argv: str) -> str:
    return shell.run(["chroot", root, *argv], env={"HOME": "/root"}, timeout=600).stdout


def loaded(root: Path) -> str:
    """The file of the KIM API that Debian's LAMMPS loads."""
    (line,) = (each for each in inside(root, "ldd", "/usr/bin/lmp").splitlines() if "kim" in each)
    return line.split()[2]


def test_what_debian_has_computes_with_the_kim_api_of_a_commit(root: Path, tmp_path: Path) -> None:
    served, found = tmp_path / "served", archive.read("trixie", tmp_path)
    commit = repository("kim-api", served / "openkim-api")
    row = Part(source="git", location="openkim-api", version=commit)
    with git_server.served(served) as url:
        sources = Sources(row, url, "openkim-api")
        made = compiled.compiled(found, "trixie", tmp_path / "kept", print, None, sources)
    kimpy = wheels.wheel(found, "trixie", BUNDLES, print)
    applied(root, lambda: onbox.files(name="Helpers", sources=tree("usr/lib/pipeline")))
    applied(root, lambda: modules(modules=kimpy))

    def reference() -> str:
        return inside(root, "/usr/lib/pipeline/reference")

    debians = loaded(root)
    assert (reference(), debians.startswith("/lib")) == (f"{KNOWN}\n", True)
    assert applied(root, lambda: deploy(compiled=made)) == (4, 0)
    assert loaded(root).startswith("/opt/pipeline/openkim-api/lib/")
    assert reference() == f"{KNOWN}\n"
    assert MODEL in inside(root, "kim-api-collections-management", "list")
    link = (root / "opt/pipeline/openkim-api").readlink()
    assert str(link) == unpacked_name("openkim-api", made.digest)
    assert applied(root, lambda: dropped(names=["openkim-api"])) == (1, 0)
    assert (reference(), loaded(root)) == (f"{KNOWN}\n", debians)
