"""The console of a box that was shut off: only GRUB's password opens it, and no boot waits for one.

GRUB itself is told, in the operator's own file, to write to the serial port, and to wait before it
boots; it is typed to as at a keyboard. In the golden root lies what gives whoever sits at a console
a shell of root, and a unit that says in the kernel's log what it sees in a boot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch

import pytest

from tests.boot.conftest import StartBox
from tests.boot.lab.box import DEADLINE, Box
from tests.storage.secure.sockets import LISTEN, documented, listening

pytestmark = pytest.mark.slow

USER, PASSWORD = "curator", "opensesame"
_HASH = f"printf '{PASSWORD}\\n{PASSWORD}\\n' | grub-mkpasswd-pbkdf2 -c 1000 | sed -n 's/.* is //p'"
_IN_BOOT = "unshare --mount sh -c 'mount /boot && cat >/boot/grub/operator.cfg && sync'"
_CREDENTIALS = "ls /run/credentials/@system"
# By the kernel's log: a getty that starts hangs up all who write to its port.
_LOOK = f"""\
until systemctl --quiet is-active multi-user.target; do sleep 1; done
{{ {LISTEN} | sed 's/^/listens: /'; {_CREDENTIALS} | sed 's/^/given: /'; echo looked; }} |
while read -r line; do echo "<3>$line" >/dev/kmsg; done
"""
_UNIT = "[Service]\nExecStart=/bin/sh /etc/look\n"
_AUTOLOGIN = "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root - $TERM\n"
_LOGGED_IN = "root (automatic login)"
_MENU = "maintenance of the golden root"
_IN_GOLDEN = f"""
    . /etc/default/resnap
    mount "/dev/$VOLGROUP/$LVROOT" /mnt
    cd /mnt/etc/systemd/system
    printf '%s' '{_AUTOLOGIN}' | tee serial-getty@.service.d/test.conf >getty@.service.d/test.conf
    cat >/mnt/etc/look
    printf '%s' '{_UNIT}' >look.service
    ln -s ../look.service multi-user.target.wants/look.service
    cd / && umount /mnt
"""


def presses(box: Box, *keys: str) -> None:
    box.guest.qmp("send-key", keys=[{"type": "qcode", "data": key} for key in keys])


def types(box: Box, text: str) -> None:
    for key in [*text, "ret"]:
        presses(box, key)


def answers(box: Box, password: str, since: int) -> None:
    box.guest.wait_for_serial("Enter username:", DEADLINE, since)
    types(box, USER)
    box.guest.wait_for_serial("Enter password:", DEADLINE, since)
    types(box, password)


@contextmanager
def secured(start_box: StartBox) -> Iterator[Box]:
    """A box that is shut off as ``secure`` does it, with an operator in it, in GRUB's menu.

    There the entry of maintenance is chosen, and GRUB waits.
    """
    with start_box() as box:
        assert "tmpfiles.extra" in box.succeed(_CREDENTIALS)  # by which we came
        box.host.run(f"set -e; {_IN_GOLDEN}", stdin=_LOOK.encode())
        lines = (
            f'set superusers="{USER}"',
            f"password_pbkdf2 {USER} {box.succeed(_HASH).strip()}",
            "serial --unit=0",
            "terminal_output serial",
            "set timeout=10",
        )
        box.host.run(_IN_BOOT, stdin="".join(f"{line}\n" for line in lines).encode())
        box.succeed("/usr/lib/secure/lock")
        box.succeed("/usr/lib/resnap/next-boot maintenance")
        box.host.close()
        since = box.guest.console.size
        box.guest.reset()
        box.guest.wait_for_serial(_MENU, DEADLINE, since)
        yield box


def opens_nothing(box: Box, since: int) -> None:
    """Boot a fresh snapshot, for which GRUB asks nobody."""
    box.guest.wait_for_serial("resnap: verdict: fresh", DEADLINE, since)
    box.guest.wait_for_serial("looked", DEADLINE, since)
    said = box.guest.console.text(since)
    assert "Enter username" not in said
    assert "given: " not in said
    found = listening(re.findall(r"listens: (.*)", said))
    assert "tcp 14178" in found
    assert [one for one in found if not any(fnmatch(one, name) for name in documented())] == []
    _, _, of_the_snapshot = said.partition("resnap: verdict: fresh")
    assert "login" not in of_the_snapshot


@pytest.fixture(scope="module")
def box(start_box: StartBox) -> Iterator[Box]:
    with secured(start_box) as secured_box:
        yield secured_box


def test_grub_opens_nothing_without_the_operators_password(box: Box) -> None:
    """Neither its command line, nor its editor, nor the entry of maintenance."""
    console = box.guest.console
    for key in ("c", "e", "ret"):
        since = console.size
        presses(box, key)
        answers(box, "sesame", since)
        box.guest.wait_for_serial("access denied", DEADLINE, since)
        assert "grub>" not in console.text(since)
        assert "setparams" not in console.text(since)
        presses(box, "esc")  # GRUB would wait for a key
        box.guest.wait_for_serial(_MENU, DEADLINE, since)


def test_the_next_boot_is_a_fresh_snapshot_asks_nobody_and_opens_nothing(box: Box) -> None:
    """The menu's first entry."""
    since = box.guest.console.size
    presses(box, "home")
    presses(box, "ret")
    opens_nothing(box, since)


@pytest.mark.long
def test_in_maintenance_the_console_is_the_golden_roots(start_box: StartBox) -> None:
    """So what is not seen in a snapshot would have been seen; and Ctrl-Alt-Del leads to one."""
    with secured(start_box) as box:
        since = box.guest.console.size
        presses(box, "ret")
        answers(box, PASSWORD, since)
        box.guest.wait_for_serial("resnap: verdict: golden", DEADLINE, since)
        box.guest.wait_for_serial("looked", DEADLINE, since)
        box.guest.wait_for_serial(_LOGGED_IN, DEADLINE, since)
        assert "given: " not in box.guest.console.text(since)
        since = box.guest.console.size
        for _ in range(8):
            presses(box, "ctrl", "alt", "delete")
        opens_nothing(box, since)
