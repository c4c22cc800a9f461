"""What a host must have before its volumes are looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploys.errors import PreflightError
from deploys.facts.packages import Complaints
from deploys.facts.state import HostState, State
from deploys.plan import preflight
from deploys.plan.result import Kind
from deploys.session import Session, Target
from deploys.settings import Settings
from tests.unit.deploys.plan.survey_builder import by_uefi, one_disk


class _Session:
    """Answers for the host; nothing is asked but its state."""

    def __init__(self, state: HostState) -> None:
        self._state = state

    def fact(self, _fact: object, **_arguments: object) -> Any:
        return self._state


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        (HostState(), "the host runs an unknown system; a box can be Debian 12, "),
        (HostState("debian", "11"), "the host runs debian 11; a box can be Debian 12, "),
        (HostState("debian", "13"), "the host has neither initramfs-tools nor dracut "),
    ],
)
def test_a_host_that_is_not_fit_is_refused(state: HostState, refusal: str) -> None:
    session: Any = _Session(state)
    with pytest.raises(PreflightError, match=f"^{refusal}"):
        preflight.check(session, Settings())


@pytest.mark.parametrize(
    ("system", "initrds", "in_file", "line"),
    [
        (
            ("ubuntu", "24.04"),
            "initramfs-tools",
            None,
            "lie in a file on this root, as Ubuntu 24.04 ",
        ),
        (
            ("debian", "13"),
            "dracut",
            0,
            "lie in a file on /dev/vda1: Debian 13 with dracut, BIOS and ext4 was not",
        ),
    ],
)
def test_a_box_in_a_file_is_of_a_system_that_was_seen_to_boot_so(
    system: tuple[str, str],
    initrds: str,
    in_file: int | None,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Host(_Session):
        def fact(self, _fact: object, **_arguments: object) -> Any:
            return self._state if _fact is State else []

    session: Any = Host(HostState(*system, initrds=initrds))
    monkeypatch.setattr(preflight, "read_survey", lambda *_: one_disk())
    with pytest.raises(PreflightError, match=f"the box cannot {line}"):
        preflight.check(session, Settings(), in_file=in_file)
    session = Host(HostState("debian", "13", initrds="initramfs-tools"))
    assert preflight.check(session, Settings(), in_file=in_file).plan.kind is Kind.FILE


@pytest.mark.parametrize(("version", "is_tried"), [("12", False), ("13", True)])
def test_a_kind_of_host_that_was_not_tried_is_named(
    version: str, is_tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Host(_Session):
        def fact(self, _fact: object, **_arguments: object) -> Any:
            return self._state if _fact is State else []

    survey = by_uefi(one_disk())
    root = replace(survey.root, fstype="xfs")
    survey = replace(survey, mounts=(root, *survey.mounts[1:]))
    monkeypatch.setattr(preflight, "read_survey", lambda *_: survey)
    session: Any = Host(HostState("debian", version, initrds="initramfs-tools"))
    if is_tried:
        assert preflight.check(session, Settings()).plan.kind is Kind.FILE
        return
    with pytest.raises(PreflightError, match="12 with initramfs-tools, UEFI and xfs was not tried"):
        preflight.check(session, Settings())


def _dpkg(admindir: Path) -> Session:
    """A pass over this machine, where dpkg has a package without md5sums and a half-made one."""
    (admindir / "info").mkdir()
    (admindir / "updates").mkdir()
    fields = "Maintainer: A <a@b>\nArchitecture: all\nVersion: 1\nDescription: one\n"
    packages = {
        "whole": "installed",
        "without-its-sums-and-long": "installed",
        "half": "half-configured",
    }
    for name in packages:
        (admindir / f"info/{name}.list").write_text("/.\n")
        (admindir / f"info/{name}.md5sums").touch()
    (admindir / "info/without-its-sums-and-long.md5sums").unlink()
    status = "\n".join(
        f"Package: {name}\nStatus: install ok {status}\n{fields}"
        for name, status in packages.items()
    )
    (admindir / "status").write_text(status)
    return Session(Target("box", environment={"DPKG_ADMINDIR": str(admindir)}))


@pytest.mark.commands
def test_what_dpkg_complains_of_is_refused_before_any_change(tmp_path: Path) -> None:
    """But not what an installation that was broken off left: provision itself ends that."""

    class Host(_Session):
        def fact(self, _fact: Any, **_arguments: object) -> Any:
            return self._state if _fact is State else session.fact(_fact)

    with _dpkg(tmp_path) as session:
        asked: Any = Host(HostState("debian", "13", initrds="dracut"))
        with pytest.raises(
            PreflightError, match=r"^dpkg --audit complains of without-its-sums-and-long: "
        ):
            preflight.check(asked, Settings())
        (tmp_path / "info/without-its-sums-and-long.md5sums").touch()
        assert session.fact(Complaints) == []
