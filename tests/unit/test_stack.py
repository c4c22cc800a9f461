"""The stack: apt is asked only when something is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pyinfra.context import ctx_host

from deploys.operations import packages


class Host:
    """A host with packages installed."""

    def __init__(self, *installed: str) -> None:
        self.installed = {name: {"1"} for name in installed}

    def get_fact(self, _fact: type) -> dict[str, set[str]]:
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
    for name in ("dpkg", "apt-get"):
        fake = tmp_path / name
        fake.write_text(f'#!/bin/sh\necho "{name} $DEBIAN_FRONTEND $*" >>"{tmp_path}/asked"\n')
        fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], env={"PATH": path}, check=True)
    mend, update, install = (tmp_path / "asked").read_text().splitlines()
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
