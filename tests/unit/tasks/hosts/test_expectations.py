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


def _host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A box whose files are in a folder."""
    monkeypatch.setattr(expectations, "SETTINGS", str(folder / "settings.json"))
    monkeypatch.setattr(expectations, "DEADLINE", str(folder / "persistent/reboot-deadline"))
    host = SimpleNamespace(run=lambda command: shell.run(["sh", "-c", command]).stdout)
    return cast(Host, host)


@pytest.mark.parametrize(
    ("settings", "deadline"),
    [
        # of an older version, which wrote it there
        (json.dumps({**OF_BOX, "boot": {"reboot_deadline": 1800}}), 1800),
        # of another version: it may have what this one does not know
        (json.dumps({**OF_BOX, "new": {}, "boot": {"reboot_deadline": 90, "more": 1}}), 90),
        (Settings(boot=Boot(reboot_deadline=1800)).of_box(), 600),
        (json.dumps({**OF_BOX, "boot": {"reboot_deadline": 1}}), 600),
        ("[]", 600),
        ("no JSON", 600),
        (None, 600),
    ],
)
def test_a_reboot_is_waited_for_as_long_as_the_box_says(
    settings: str | None, deadline: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings is not None:
        (tmp_path / "settings.json").write_text(settings)
    host = _host(tmp_path, monkeypatch)
    assert expectations.reboot_deadline(host) == deadline
    expectations.keep_deadline(host, 2400)
    expectations.keep_deadline(host, 2400)
    assert expectations.reboot_deadline(host) == 2400


def test_a_deadline_that_is_none_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = _host(tmp_path, monkeypatch)
    expectations.keep_deadline(host, 2400)
    (tmp_path / "persistent/reboot-deadline").write_text("1e999\n")
    assert expectations.reboot_deadline(host) == 600
