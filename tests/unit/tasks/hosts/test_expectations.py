"""What a host's state is to be, and how long its reboots are waited for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from deploys.settings import Boot, Settings
from tasks.desk import shell
from tasks.hosts import expectations
from tasks.hosts.connection import Host

pytestmark = pytest.mark.commands
OF_BOX = json.loads(Settings().of_box())


def _deadline(file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(expectations, "SETTINGS", str(file))
    host = SimpleNamespace(run=lambda command: shell.run(["sh", "-c", command]).stdout)
    return expectations.reboot_deadline(cast(Host, host))


@pytest.mark.parametrize(
    ("settings", "deadline"),
    [
        (Settings(boot=Boot(reboot_deadline=1800)).of_box(), 1800),
        # of another version: it may have what this one does not know
        (json.dumps({**OF_BOX, "new": {}, "boot": {"reboot_deadline": 90, "more": 1}}), 90),
        (json.dumps({**OF_BOX, "boot": {}}), 600),
        (json.dumps({**OF_BOX, "boot": {"reboot_deadline": 1}}), 600),
        ("[]", 600),
        ("no JSON", 600),
        (None, 600),
    ],
)
def test_a_reboot_is_waited_for_as_long_as_the_box_says(
    settings: str | None, deadline: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    if settings is not None:
        file.write_text(settings)
    assert _deadline(file, monkeypatch) == deadline
