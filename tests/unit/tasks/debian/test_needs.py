"""What each task needs on this machine: every task has its row, and says in one line what lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from invoke.exceptions import Exit
from invoke.executor import Executor

from deploys.errors import PreflightError
from tasks import ns
from tasks.debian import needs
from tasks.desk import shell
from tasks.desk.places import ROOT

_ROWS = [name for _, names in needs.TABLE for name in names]


def _installed(folder: Path, monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(shell, "_SBIN", ())
    for name in programs:
        (folder / name).touch(mode=0o755)


def test_every_task_is_in_one_row() -> None:
    assert sorted(_ROWS) == sorted(ns.task_names)


@pytest.mark.parametrize("name", _ROWS)
def test_each_task_looks_before_it_does_anything(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As inv and fab run it: the task itself is not reached."""
    reached: list[str] = []
    monkeypatch.setattr(ns[name], "body", lambda _c, **_: reached.append(name))
    monkeypatch.setattr(ns[name], "post", [])
    _installed(tmp_path, monkeypatch)
    if needs._PROGRAMS[name]:
        with pytest.raises(Exit, match=f"^error: {re.escape(name)} needs ") as raised:
            Executor(ns).execute(name)
        assert (raised.value.code, str(raised.value).count("\n"), reached) == (1, 0, [])
        _installed(tmp_path, monkeypatch, *needs._PROGRAMS[name])
    Executor(ns).execute(name)
    assert reached == [name]


@pytest.mark.parametrize(
    ("name", "installed", "says"),
    [
        # Debian
        (
            "status",
            ("apt-get", "ssh"),
            "status needs ssh-keygen: sudo apt-get install openssh-client",
        ),
        (
            "box.build",
            needs._IMAGES[:-2],
            "box.build needs qemu-img, sfdisk: sudo apt-get install qemu-utils fdisk",
        ),
        # macOS, Fedora, Arch
        ("box.package", (), "box.package needs qemu-img: install it first"),
        ("status", (), "status needs ssh, ssh-keygen: install them first"),
        (
            "box.build",
            needs._DISKS,
            "box.build needs Debian's tools, which this system lacks: "
            "do it on Debian 12 or 13, or Ubuntu 24.04",
        ),
    ],
)
def test_a_line_says_what_lacks_and_where_it_is(
    name: str,
    installed: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _installed(tmp_path, monkeypatch, *installed)
    with pytest.raises(PreflightError) as raised:
        needs.require(name)
    assert str(raised.value) == says


def test_debians_packages_are_those_that_the_launcher_installs() -> None:
    """So that on Debian no task lacks what its row says; apt and dpkg are always there."""
    lists = ("packages", "packages-for-images")
    lines = [line for name in lists for line in (ROOT / "bin" / name).read_text().splitlines()]
    listed = {line.split()[0] for line in lines if not line.startswith("#")}
    wanted = {shell._package(each) for programs, _ in needs.TABLE for each in programs}
    assert wanted - listed == {"apt", "dpkg", "util-linux"}
