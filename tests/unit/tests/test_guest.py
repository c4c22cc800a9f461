"""The guest of the tests: found in its folder, and waited for on its console."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploys.errors import BoxError, UnreachableError
from tasks.guests import qemu
from tests.hosts.guest import Guest
from tests.unit.tasks.guests.test_qemu import record


def test_a_folder_without_a_guest_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match=f"no guest in {tmp_path}"):
        Guest.load(tmp_path)


def test_waiting_on_the_console_ends_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, pid=1)
    guest = Guest.load(tmp_path)
    guest.console.file.write_bytes(b"\x1b[1mBooting\x1b[0m\r\nbare login: ")
    monkeypatch.setattr(qemu, "_is_ours", lambda *_: True)
    guest.wait_for_serial("login:", deadline=0)
    with pytest.raises(UnreachableError, match=r"'ready' after 0 s; .* Booting \| bare login:$"):
        guest.wait_for_serial("ready", deadline=0)
    with pytest.raises(UnreachableError, match="did not say"):
        guest.wait_for_serial("login:", deadline=0, since=guest.console.size)


def test_a_guest_that_went_off_is_not_waited_for(tmp_path: Path) -> None:
    record(tmp_path, pid=0)
    with pytest.raises(UnreachableError, match=r"went off, saying: \(nothing\)"):
        Guest.load(tmp_path).wait_for_serial("login:", deadline=60)
