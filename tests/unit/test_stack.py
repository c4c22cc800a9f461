"""The stack: apt is asked only when something is missing."""

from __future__ import annotations

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


@pytest.mark.parametrize("installed", [(), ("git",)])
def test_what_is_missing_is_installed_without_questions(installed: tuple[str, ...]) -> None:
    mend, update, install = _commands(*installed)
    assert "dpkg --configure -a" in mend
    assert update.endswith("update")
    assert "DEBIAN_FRONTEND=noninteractive" in install
    assert "--no-install-recommends" in install
    wanted = sorted({"git", "lammps"} - set(installed))
    assert install.split()[-len(wanted) :] == wanted
