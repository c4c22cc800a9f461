"""What apt, with an empty system of its own, says of an archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from deploys.errors import BoxError
from tasks.debian import apt
from tasks.debian.archive import Archive
from tasks.desk import shell

HERE = Archive(("deb http://m.test/debian trixie main",), (), "digest", 17)
SIMULATED = """\
Reading package lists...
The following NEW packages will be installed:
  gcc-14-base g++
Inst gcc-14-base (14.2.0-19 Debian:13.1/stable [amd64])
Inst g++ (4:14.2.0-1 Debian:13.1/stable [amd64]) []
Conf gcc-14-base (14.2.0-19 Debian:13.1/stable [amd64])
"""


def test_what_an_installation_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def run(argv: Sequence[str], env: Mapping[str, str], **_: object) -> shell.Completed:
        seen.append(" ".join(argv))
        root = Path(env["APT_CONFIG"]).parent
        seen.append((root / "preferences").read_text())
        return shell.Completed(tuple(argv), 0, SIMULATED if "install" in argv else "", "")

    monkeypatch.setattr(shell, "run", run)
    found = apt.resolved(("g++",), HERE, tmp_path, {"g++": "4:14.2.0-1"})
    assert found == {"gcc-14-base": "14.2.0-19", "g++": "4:14.2.0-1"}
    assert "--simulate" in seen[2]
    assert seen[3] == "Package: g++\nPin: version 4:14.2.0-1\nPin-Priority: 1001\n"
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: Sequence[str], **_: object) -> shell.Completed:
        if "install" in argv:
            said = "W: odd\nE: Unable to locate package nosuch\n"
            raise shell.CommandError("apt-get failed", argv, 100, said)
        return shell.Completed(tuple(argv), 0, "", "")

    monkeypatch.setattr(shell, "run", run)
    with pytest.raises(BoxError, match=r"^Unable to locate package nosuch$"):
        apt.resolved(("nosuch",), HERE, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mail-transport-agent", "l.bc6", "nosuch"])
def test_a_virtual_package_or_a_pattern_is_no_package(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """apt-cache madison has a line for each version of a package by its very name."""
    table = "libc6 | 2.41 | http://m.test/debian trixie/main amd64 Packages\n"
    monkeypatch.setattr(shell, "run", lambda argv, **_: shell.Completed(tuple(argv), 0, table, ""))
    apt.require(("libc6",), HERE, tmp_path)
    with pytest.raises(BoxError, match=rf"^the archive has no package {name}; if it is virtual"):
        apt.require(("libc6", name), HERE, tmp_path)
    assert not list(tmp_path.iterdir())
