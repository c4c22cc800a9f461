"""The operator's way into a box that was shut off: GRUB's password, and no boot that waits for one.

GRUB itself is told, in the operator's own file, to write to the serial port; it is typed to as at a
keyboard.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.boot.conftest import StartBox
from tests.boot.lab.box import DEADLINE, Box

USER, PASSWORD = "curator", "opensesame"
_HASH = f"printf '{PASSWORD}\\n{PASSWORD}\\n' | grub-mkpasswd-pbkdf2 -c 1000 | sed -n 's/.* is //p'"
_IN_BOOT = "unshare --mount sh -c 'mount /boot && cat >/boot/grub/operator.cfg && sync'"


@pytest.fixture(scope="module")
def secured(start_box: StartBox) -> Iterator[Box]:
    """A box whose menu is shut as ``secure`` shuts it, with an operator in it."""
    with start_box() as box:
        lines = (
            f'set superusers="{USER}"',
            f"password_pbkdf2 {USER} {box.succeed(_HASH).strip()}",
            "serial --unit=0",
            "terminal_output serial",
        )
        box.host.run(_IN_BOOT, stdin="".join(f"{line}\n" for line in lines).encode())
        box.succeed("/usr/lib/secure/lock write_menu")
        box.succeed("/usr/lib/resnap/next-boot maintenance")
        box.host.close()
        yield box


def types(box: Box, text: str) -> None:
    for key in [*text, "ret"]:
        box.guest.qmp("send-key", keys=[{"type": "qcode", "data": key}])


def answers(box: Box, password: str, since: int) -> None:
    box.guest.wait_for_serial("Enter username:", DEADLINE, since)
    types(box, USER)
    box.guest.wait_for_serial("Enter password:", DEADLINE, since)
    types(box, password)


def test_maintenance_takes_the_operators_password_and_no_other(secured: Box) -> None:
    console = secured.guest.console
    since = console.size
    secured.guest.reset()
    answers(secured, "sesame", since)
    secured.guest.wait_for_serial("access denied", DEADLINE, since)
    assert "verdict" not in console.text(since)
    since = console.size
    types(secured, "")  # any key, and GRUB asks again
    answers(secured, PASSWORD, since)
    secured.guest.wait_for_serial("resnap: verdict: golden", DEADLINE, since)


def test_the_next_boot_is_a_fresh_snapshot_and_asks_nobody(secured: Box) -> None:
    console = secured.guest.console
    since = console.size
    secured.guest.reset()
    secured.guest.wait_for_serial("resnap: verdict: fresh", DEADLINE, since)
    assert "Enter username" not in console.text(since)
