"""``inv settings`` and docs/settings.md: every field of the model, with what it means."""

from __future__ import annotations

import json

import pytest
from invoke.context import Context

from tasks import dev
from tasks.desk.flags import load
from tasks.desk.setting_tables import Setting, sections


def by_name() -> dict[str, Setting]:
    return {each.name: each for section in sections() for each in section.settings}


def test_every_setting_has_a_meaning_and_is_taken_by_its_name() -> None:
    found = by_name()
    assert len(found) > 40
    assert all(each.meaning.endswith(".") for each in found.values())
    with pytest.raises(Exception, match="did you mean"):
        load(overrides=["volumes.no_such_name=1"])
    for name, each in found.items():
        if each.default and not name.startswith("stack."):
            load(overrides=[f"{name}={each.default}"])


@pytest.mark.parametrize(
    ("name", "default", "limits"),
    [
        ("volumes.chunksize", "64K", "4K to 512K"),
        ("volumes.root_size", "", "2G or more"),
        ("boot.deadline", "120", "5 to 3600"),
        ("jobs.director", "false", "true, false"),
        ("image.suite", "trixie", "trixie"),
        ("stack.lammps", "apt: lammps", ""),
        ("stack.PART.source", "", "git, apt, pip, file, none"),
    ],
)
def test_default_and_limits_are_as_a_person_writes_them(
    name: str, default: str, limits: str
) -> None:
    found = by_name()[name]
    assert (found.default, found.limits) == (default, limits)


def test_the_task_shows_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    dev.settings(Context())
    assert "volumes.lvsize" in capsys.readouterr().out
    dev.settings(Context(), json=True)
    printed = json.loads(capsys.readouterr().out)
    assert {section["name"] for section in printed} >= {"", "volumes", "stack", "stack.PART"}
