"""The stack: apt is asked only when something is missing."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.context import ctx_host

from deploys import stack
from deploys.facts.packages import SourceDigests
from deploys.operations import onbox, packages
from deploys.operations.packages import LocalPackage
from deploys.operations.prefixes import no_prefixes
from deploys.stack import Parts
from tasks.desk.flags import load
from tests.unit.onbox.fakeroot import FakeRoot


class Host:
    """A host with packages installed; those of our making have the digest ``feed``."""

    def __init__(self, *installed: str) -> None:
        self.installed = {name: {"1"} for name in installed}

    def get_fact(self, fact: type) -> dict[str, Any]:
        if fact is SourceDigests:
            return {name: "feed" for name in self.installed if name.startswith("pipeline-")}
        return self.installed

    def noop(self, _words: str) -> None: ...


def _commands(*installed: str) -> list[str]:
    with ctx_host.use(Host(*installed)):
        return [str(command) for command in packages.present._inner(packages=["git", "lammps"])]


def test_nothing_missing_touches_nothing() -> None:
    assert _commands("git", "lammps", "other") == []


@pytest.mark.commands
@pytest.mark.parametrize("installed", [(), ("git",)])
def test_what_is_missing_is_installed_without_questions(
    installed: tuple[str, ...], tmp_path: Path
) -> None:
    (command,) = _commands(*installed)
    box = FakeRoot(tmp_path)
    for name in ("dpkg", "apt-get"):
        box.tool(name, f'echo "{name} $DEBIAN_FRONTEND $*" >>"{box.root}/calls"')
    subprocess.run(["sh", "-c", command], env=box.environment, check=True)
    mend, update, install = box.calls
    assert mend.startswith("dpkg noninteractive --configure -a")
    assert update.endswith("update")
    assert "--no-install-recommends" in install
    wanted = sorted({"git", "lammps"} - set(installed))
    assert install.split()[-len(wanted) :] == wanted


def pinned(version: str) -> list[str]:
    with ctx_host.use(Host("git", "lammps")):
        found = packages.present._inner(packages=["git", "lammps"], versions={"lammps": version})
        return [str(command) for command in found]


def test_a_version_that_is_there_touches_nothing() -> None:
    assert pinned("1") == []


def test_another_version_is_installed_be_it_older() -> None:
    (command,) = pinned("0.9")
    assert command.endswith(" install --allow-downgrades lammps=0.9")


LAMMPS = LocalPackage("pipeline-lammps", "feed", Path("here.deb"))


def with_local(*installed: str, **more: Any) -> list[str]:
    with ctx_host.use(Host(*installed)):
        found = packages.present._inner(packages=["git"], **more)
        return [str(command) for command in found]


def test_a_package_of_our_making_that_is_there_touches_nothing() -> None:
    assert with_local("git", "pipeline-lammps", local=[LAMMPS]) == []


@pytest.mark.parametrize("installed", [(), ("pipeline-lammps",)])
def test_another_of_our_making_is_installed_without_asking_the_archive(
    installed: tuple[str, ...],
) -> None:
    new = replace(LAMMPS, digest="beef")
    upload, install, remove = with_local("git", "old", *installed, local=[new], stay=["old"])
    file = "/var/cache/pipeline-lammps.deb"
    assert upload == f"FileUploadCommand(here.deb, {file})"
    assert install.endswith(f"install --allow-downgrades git=1 old=1 {file}")
    assert "update" not in install
    assert remove == f"rm -f {file}"


def test_what_no_row_asks_for_goes_and_takes_nothing_with_it() -> None:
    (command,) = with_local(
        "git", "pipeline-ase", "lammps", absent=["pipeline-ase"], stay=["lammps"]
    )
    assert command.endswith("install git=1 lammps=1 pipeline-ase-")
    assert "apt-get -q -o DPkg::Lock::Timeout=300 update" in command
    assert with_local("git", absent=["pipeline-ase"]) == []


def test_rows_say_what_is_installed_and_what_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(packages, "present", lambda **arguments: asked.update(arguments))
    monkeypatch.setattr(stack, "no_prefixes", lambda **_: None)
    monkeypatch.setattr(onbox, "files", lambda **_: None)
    commit = "c0ffee" * 6 + "c0de"
    rows = [f"stack.lammps.{row}" for row in ("source=git", "location=/x", f"version={commit}")]
    settings = load(None, [*rows, "stack.openkim-python.source=none", "stack.packages=wget"])
    stack.stack._inner(settings=settings, parts=Parts((LAMMPS,)))
    assert {"libkim-api2", "wget"} <= set(asked["packages"])
    assert "lammps" not in (*asked["packages"], *asked["stay"])
    assert asked["local"] == (LAMMPS,)
    assert "pipeline-openkim-python" in asked["absent"]
    assert "pipeline-lammps" not in asked["absent"]
    # the box itself has the packages and not their files
    stack.stack._inner(settings=settings)
    assert (asked["local"], asked["absent"]) == ((), ())


@pytest.mark.parametrize(
    ("there", "left"),
    [
        (("python", "python-0123", "setup", "repository"), False),
        (("python", "kimpy", "kimpy-0123"), True),
        (("lammps-0123",), True),  # a power cut left it
        (("asebestos",), False),
    ],
)
def test_what_older_boxes_had_is_seen(there: tuple[str, ...], left: bool) -> None:
    class Folder:
        def get_fact(self, _fact: type, **_: object) -> set[str]:
            return set(there)

    with ctx_host.use(Folder()):
        assert len(list(no_prefixes._inner())) == left
