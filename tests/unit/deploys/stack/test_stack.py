"""The stack: apt is asked only when something is missing."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyinfra.context import ctx_host

from deploys import box, stack
from deploys.box import Where
from deploys.facts.onbox import Present
from deploys.facts.packages import SourceDigests
from deploys.operations import onbox, packages
from deploys.operations.leftovers import FILES, no_old_files, no_prefixes
from deploys.operations.packages import LocalPackage
from deploys.services import runner, secure, status_page
from deploys.settings import Settings
from deploys.stack import Parts
from tasks.desk.flags import load
from tests.unit.onbox.fakeroot import FakeRoot, Tree


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
    assert "APT::Cmd::Pattern-Only=true" in install  # no name is a regular expression
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
    installed: tuple[str, ...], tmp_path: Path
) -> None:
    here = tmp_path / "here.deb"
    here.write_bytes(b"a package")
    new = replace(LAMMPS, digest="beef", file=here)
    upload, install = with_local("git", "old", *installed, local=[new], stay=["old"])
    sent = re.fullmatch(rf"FileUploadCommand\({here}, (/var/cache/\S+\.deb)\)", upload)
    assert sent
    assert install.endswith(f"install --allow-downgrades git=1 old=1 {sent[1]}")
    assert "update" not in install
    assert install.startswith(f"trap 'rm -f {sent[1]}' EXIT; ")


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
    monkeypatch.setattr(stack, "no_prefixes", lambda **arguments: asked.update(arguments))
    monkeypatch.setattr(stack, "no_old_files", lambda **_: None)
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
    assert not asked["keep_kimpy"]  # no row asks for it
    # the box itself has the packages and not their files
    stack.stack._inner(settings=settings)
    assert (asked["local"], asked["absent"]) == ((), ())


@pytest.mark.parametrize("is_built", [False, True])
def test_the_kimpy_of_an_older_box_stays_until_a_package_takes_its_place(
    is_built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    for module, name in ((packages, "present"), (onbox, "files"), (stack, "no_old_files")):
        monkeypatch.setattr(module, name, lambda **_: None)
    monkeypatch.setattr(stack, "no_prefixes", lambda **arguments: asked.update(arguments))
    kimpy = LocalPackage("pipeline-openkim-python", "c0ffee", Path())
    stack.stack._inner(settings=Settings(), parts=Parts((kimpy,) if is_built else ()))
    assert asked["keep_kimpy"] is not is_built


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
        commands = [str(command) for command in no_prefixes._inner(keep_kimpy=True)]
    assert len(commands) == (left and "kimpy" not in there)
    assert not any("kimpy" in command for command in commands)


@pytest.mark.commands
def test_files_of_older_versions_go_and_nothing_else(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("usr/lib/resnap/golden")
    tree.write("usr/lib/resnap/versions")
    old = "usr/lib/pipeline-runner/kimpipeline/"
    for name in ("edn.py", "worker.py", "__pycache__/edn.cpython-313.pyc"):
        tree.write(old + name)
    tree.write("usr/lib/pipeline-runner/kimpipeline/kim/edn.py")
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "provisiond.service").symlink_to("/etc/systemd/system/provisiond.service")
    (wants / "host-keys.service").symlink_to("/etc/systemd/system/host-keys.service")

    class Here:
        """A host whose paths are below the folder."""

        def get_fact(self, fact: type[Present], paths: tuple[str, ...]) -> set[str]:
            there = fact().command([f"{tmp_path}{path}" for path in paths])
            done = subprocess.run(["sh", "-c", there], check=True, capture_output=True, text=True)
            found = fact().process(done.stdout.splitlines())
            return {path.removeprefix(str(tmp_path)) for path in found}

    with ctx_host.use(Here()):
        (command,) = (str(each) for each in no_old_files._inner())
        here = command.replace(" /", f" {tmp_path}/")
        subprocess.run(["sh", "-c", here], check=True)
        assert list(no_old_files._inner()) == []
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert left == {
        "usr/lib/resnap/versions",
        f"{old}worker.py",
        f"{old}kim/edn.py",
        "etc/systemd/system/multi-user.target.wants/host-keys.service",
    }


def test_no_file_of_this_version_is_one_of_older_versions() -> None:
    settings = [load(), load(None, ["role=gateway", "jobs.director=true"])]
    installed = {
        *onbox.tree("usr", "etc"),
        *status_page.sources(),
        *secure.files(),
        *(path for each in settings for path in runner.sources(each)),
    }
    assert not installed & set(FILES)


def test_an_old_link_goes_only_where_the_target_wants_the_unit_instead() -> None:
    """Else the unit would not start any more."""
    wanted = {
        unit
        for role in ("devel", "gateway")
        for director in ("true", "false")
        for unit in box.units(
            load(None, [f"role={role}", f"jobs.director={director}"]), Where.GOLDEN
        )
    }
    old = {Path(path).name for path in FILES if ".target.wants/" in path}
    assert old <= wanted
