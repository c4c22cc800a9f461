"""The rows of the stack: what is taken, the one line for what is not, what the manifest says."""

from __future__ import annotations

import pytest

from deploys.errors import SettingsError
from deploys.settings import Settings
from deploys.settings.origins import provenance
from deploys.settings.stack import BUILT, DEFAULTS
from deploys.stack import stack_packages
from tasks.desk.flags import load

COMMIT, SHA256 = "c0ffee" * 6 + "c0de", "feed" * 16
PYTHON, LAMMPS = "stack.openkim-python", "stack.lammps"
GIT = (f"{PYTHON}.source=git", f"{PYTHON}.version={COMMIT}")
FILE = (f"{PYTHON}.source=file", f"{PYTHON}.sha256={SHA256}")
LAMMPS_FILE = [f"{LAMMPS}.source=file", f"{LAMMPS}.sha256={SHA256}", f"{LAMMPS}.location=/x.zip"]
SETUP = "stack.openkim-pipeline-setup"
PINNED = (f"{SETUP}.source=git", f"{SETUP}.version={COMMIT}")
HOSTNAME = "setup.hostname=https://git.example.org/kim/"


def test_the_defaults_are_the_registries_packages() -> None:
    assert tuple(load().stack.parts) == tuple(DEFAULTS)
    computing = ("libkim-api2", "lammps", "openkim-models", "python3-ase")
    kimpys = ("libstdc++6", "python3-numpy")
    own = ("ca-certificates", "git", "openssh-client", "python3")
    assert stack_packages(load()) == tuple(sorted((*computing, *kimpys, *own)))
    assert load().stack.versions == {}


def test_a_row_says_only_what_differs() -> None:
    settings = load(None, ["stack.lammps.version=20250204+dfsg.1-2"])
    assert settings.stack.lammps.location == "lammps"
    assert settings.stack.versions == {"lammps": "20250204+dfsg.1-2"}
    assert settings.stack.from_archive == load().stack.from_archive


def test_a_row_can_bring_more_packages() -> None:
    settings = load(None, ["stack.openkim-api.location=libkim-api-dev g++"])
    assert {"g++", "libkim-api-dev"} <= set(settings.stack.from_archive)


def test_packages_come_on_top_of_the_rows() -> None:
    plain, more = load(), load(None, ["stack.packages=cmake, wget"])
    assert more.stack.from_archive == (*plain.stack.from_archive, "cmake", "wget")
    assert Settings.model_validate_json(more.of_box()) == more
    assert load(None, ["stack=none", "stack.packages=wget"]).stack.from_archive == ("wget",)


@pytest.mark.parametrize(
    ("location", "hostname", "address"),
    [
        ("", HOSTNAME, "https://git.example.org/kim/openkim-python"),
        ("forks/kimpy.git", "setup.hostname=/srv/git", "/srv/git/forks/kimpy.git"),
        ("ssh://git@[::1]:22/kimpy", HOSTNAME, "ssh://git@[::1]:22/kimpy"),
        ("/srv/kimpy", HOSTNAME, "/srv/kimpy"),
    ],
)
def test_a_location_follows_the_hostname(location: str, hostname: str, address: str) -> None:
    rows = [*GIT, hostname, *([f"{PYTHON}.location={location}"] if location else [])]
    settings = load(None, rows)
    assert settings.stack.openkim_python.address(settings.setup.hostname) == address
    assert Settings.model_validate_json(settings.of_box()) == settings


def git(*names: str) -> list[str]:
    rows = [f"stack.{name}.source=git" for name in names]
    return [*rows, *(f"stack.{name}.version={COMMIT}" for name in names), HOSTNAME]


def test_what_is_built_comes_with_what_it_needs_and_in_place_of_debians() -> None:
    rows = git(*(name for name in BUILT if name != "kim-tools"))
    stack = load(None, [*rows, "stack.kim-tools.source=pip"]).stack
    assert stack.built == tuple(BUILT)
    assert stack.kim_tools.location == "kim-tools"
    assert "python3-pymatgen" in stack.from_archive
    assert not {"lammps", "libkim-api2", "python3-ase"} & set(stack.from_archive)
    assert {"libgfortran5", "python3-scipy"} <= set(stack.from_archive)
    assert stack.has_reference
    assert load().stack.built == ("openkim-python",)


def test_a_row_whose_package_another_row_replaces_brings_none() -> None:
    """Debian's python3-ase is two rows' package: a fork of ASE has its calculator too."""
    stack = load(None, [*git("ase"), "stack.openkim-kimcalculator-ase.version=3.22.1-3"]).stack
    assert stack.built == ("ase", "openkim-python")
    assert "python3-ase" not in stack.from_archive
    assert stack.versions == {}
    rows = {name: row.model_dump() for name, row in stack.parts.items()}
    made = {"version": "3+pipeline.1", "source": "git", "commit": COMMIT}
    said = provenance(rows, "c", {"pipeline-ase": "3+pipeline.1"}, {"pipeline-ase": made})
    assert said["ase"] == made
    assert said["openkim-kimcalculator-ase"] == {
        "source": "apt",
        "packages": {"pipeline-ase": "3+pipeline.1"},
    }


def test_items_from_git_are_no_models_that_lammps_could_run() -> None:
    repository = "stack.openkim-repository"
    rows = [f"{repository}.source=git", f"{repository}.version={COMMIT}", HOSTNAME]
    stack = load(None, rows).stack
    assert stack.has_items
    assert not stack.has_reference
    assert "openkim-models" not in stack.from_archive
    assert not load().stack.has_items


@pytest.mark.parametrize("location", ["", "forks/setup.git"])
def test_the_setup_project_is_pinned_with_a_hostname_or_without(location: str) -> None:
    said = [f"{SETUP}.location={location}"] if location else []
    settings = load(None, [*PINNED, *said])
    part = settings.stack.openkim_pipeline_setup
    assert (part.location, part.version) == (location or "openkim-pipeline-setup", COMMIT)
    assert load(None, [*PINNED, *said, HOSTNAME]).stack == settings.stack


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["stack.packages=-y"], "setting stack.packages.0: '-y' is no name of"),
        (
            [*git("ase"), "stack.packages=python3-ase"],
            "a package that is built here replaces python3-ase",
        ),
        (["stack.lamps.source=apt"], "unknown setting 'stack.lamps'; did you mean 'stack.lammps'?"),
        (["stack.lammps.commit=1"], "unknown setting 'stack.lammps.commit'"),
        (["stack.lammps.source=svn"], "stack.lammps.source: Input should be 'git', 'apt', 'pip'"),
        (["stack.lammps.source=pip"], "from pip, only from apt or git or file or none"),
        (["stack.openkim-api.source=git"], "stack.openkim-api: version: git needs the whole"),
        ([f"{LAMMPS}.source=file", f"{LAMMPS}.location=/x"], "a file needs 64"),
        (LAMMPS_FILE, "lammps: the file must be a .tar.gz of sources"),
        (["stack.openkim-repository.source=pip"], "from pip, only from apt or git or file or none"),
        (["stack.ase.source=pip"], "stack.ase: location '': write a project's name"),
        (["stack.ase.source=pip", "stack.ase.location=ase"], "ase: no lock file has ase; give a"),
        (["stack.kim-tools.source=apt"], "kim-tools cannot come from apt, only from none or pip"),
        (["stack.ase.source=git"], "stack.ase: version: git needs the whole commit"),
        ([f"{SETUP}.source=pip"], "cannot come from pip, only from this checkout or git"),
        ([f"{SETUP}.source=git"], "git needs the whole commit"),
        ([f"{SETUP}.location=/x", f"{SETUP}.sha256={SHA256}"], "only from this checkout or git"),
        ([*PINNED, f"{SETUP}.location=/srv/setup"], "location must be relative to"),
        ([*PINNED, f"{SETUP}.location=git://h/setup"], "location must be relative to"),
        (["stack.openkim-pipeline.source=none"], "only from this checkout"),
        (
            ["stack.openkim-pipeline.location=/x", f"stack.openkim-pipeline.sha256={SHA256}"],
            "openkim-pipeline cannot come from another file, only from this checkout",
        ),
        (["stack.lammps.location="], "stack.lammps: location '': write the names of Debian"),
        (["stack.lammps.location=$(id)"], "write the names of Debian packages"),
        (["stack.lammps.location=-y"], "write the names of Debian packages"),
        (["stack.lammps.version=1 2"], "version '1 2': give that of the one package"),
        (["stack.lammps.location=a1 b1", "stack.lammps.version=1"], "that of the one package"),
        (["stack.lammps.sha256=1"], "sha256 is for pip and file"),
        (
            ["stack.ase.version=1", "stack.openkim-kimcalculator-ase.version=2"],
            "ask for different versions",
        ),
        ([f"{PYTHON}.source=none", f"{PYTHON}.version=1"], "source none takes no location"),
        ([f"{PYTHON}.version=2.1.3"], "pip needs both version and sha256"),
        ([f"{PYTHON}.sha256={SHA256}"], "pip needs both version and sha256"),
        ([f"{PYTHON}.location=a b"], "write a project's name"),
        ([f"{PYTHON}.location=kimpier"], "no lock file has kimpier; give a version"),
        (GIT[:1], "git needs the whole commit, 40 or 64 hexadecimal digits; a branch moves"),
        ([GIT[0], f"{PYTHON}.version=stable"], "git needs the whole commit"),
        ([GIT[0], f"{PYTHON}.version={COMMIT[:12]}"], "git needs the whole commit"),
        ([*GIT, f"{PYTHON}.sha256={SHA256}"], "git checks its commit"),
        (GIT, "stack.openkim-python: openkim-python is relative: it needs setup.hostname"),
        ([FILE[0], f"{PYTHON}.location=/x.tar.gz"], "sha256: a file needs 64"),
        (FILE[:1], "openkim-python: the file must be a .tar.gz"),
        (FILE, "stack.openkim-python: a file needs a location"),
        ([*FILE, f"{PYTHON}.location=/x.zip"], "openkim-python: the file must be a .tar.gz"),
        ([FILE[0], f"{PYTHON}.location=/x", f"{PYTHON}.version=1"], "a file has no version"),
        ([*FILE, f"{PYTHON}.location=k.tar.gz", HOSTNAME], "it needs a path in setup.hostname"),
        ([*FILE, f"{PYTHON}.location=https://h/k.tar.gz"], "write a path or a name"),
    ],
)
def test_a_wrong_row_is_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, overrides)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        *("../x", "a/../b", "a/./b", "/../x", "-x", "a/-x", "a b", "a\nb", "a//b", "$(id)", "~;x"),
        *("ext::sh -c id", "file://-x", "ssh://-oProxyCommand=id/x", "git://h/../x"),
        *("ssh://git@-oProxyCommand=id/x", "https://user:secret@h/x", "https://h/x#y"),
    ],
)
def test_no_location_has_tricks_in_it(location: str) -> None:
    with pytest.raises(SettingsError, match="location") as caught:
        load(None, [*GIT, HOSTNAME, f"{PYTHON}.location={location}"])
    assert "\n" not in str(caught.value)


def test_the_manifest_has_each_part_as_it_is() -> None:
    rows = {name: row.model_dump() for name, row in load().stack.parts.items()}
    packages = {"libkim-api2:amd64": "2.3", "lammps": "1", "python3-ase": "3", "vim": "9"}
    kimpy = {"source": "pip", "version": "2.1.4+pipeline.1", "sha256": SHA256}
    said = provenance(rows, "c0ffee", packages, {"pipeline-openkim-python": kimpy})
    own, ase = ({"source": "file", "commit": "c0ffee"}, {"python3-ase": "3"})
    assert said == {
        "openkim-pipeline-setup": own,
        "openkim-api": {"source": "apt", "packages": {"libkim-api2": "2.3"}},
        "openkim-python": kimpy,
        "openkim-kimcalculator-ase": {"source": "apt", "packages": ase},
        "openkim-repository": {"source": "apt", "packages": {}},
        "openkim-pipeline": own,
        "ase": {"source": "apt", "packages": ase},
        "lammps": {"source": "apt", "packages": {"lammps": "1"}},
        "kim-tools": {"source": "none"},
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"source": "git", "location": "x", "version": COMMIT, "sha256": ""}, {"commit": COMMIT}),
        ({"source": "file", "version": "", "sha256": SHA256}, {"sha256": SHA256}),
        ({"source": "none", "version": "", "sha256": ""}, {}),
    ],
)
def test_the_manifest_has_the_items_origin(row: dict[str, str], said: dict[str, str]) -> None:
    name = "openkim-repository"
    assert provenance({name: row}, "c", {}, {}) == {name: {"source": row["source"], **said}}


def test_what_is_built_is_what_the_box_has_not_what_was_asked() -> None:
    rows = {"openkim-python": {"source": "pip", "location": "kimpy"}}
    assert provenance(rows, "c", {}, {}) == {"openkim-python": {"source": "none"}}
