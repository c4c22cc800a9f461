"""Hosts that became boxes are given back, by the command that a user types.

Each is compared with itself: file by file, before its first provision and after.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tests.boot.conftest import GIB, INSTALLED, Start
from tests.boot.hosts.whole_host import differences, whole
from tests.boot.lab.box import DEADLINE, Box, Ran, command, home_that_knows, interrupted
from tests.boot.lab.recipes import PASSWORD, Recipe
from tests.boot.lab.uefi import (
    LVM_HOST,
    PLAIN,
    PLAIN_HOST,
    SECURE,
    boot_variable,
    entries,
    host,
    make_entry,
)

# Each is a walk of six boots or more.
pytestmark = pytest.mark.long

# Provision installs fdisk, lvm2 and zstd on it.
BIOS_HOST = Recipe(extra=tuple(name for name in INSTALLED if name != "fdisk"))
_BOOT_CODE = "head -c 440 /dev/vda | sha256sum"
# Whose menu has a password lets its usual entries boot without it.
_OPEN = """
sed -i 's/^CLASS="\\(.*\\)"/CLASS="\\1 --unrestricted"/' /etc/grub.d/10_linux
grep -q unrestricted /etc/grub.d/10_linux
update-grub
"""


class User:
    """Who types ``fab unprovision`` at a desk."""

    def __init__(self, box: Box, folder: Path) -> None:
        self._box, self._state = box, folder
        self._home = home_that_knows(box, folder)

    def _words(self, *more: str) -> tuple[str, ...]:
        login = self._box.guest.login
        where = f"{login.user}@{login.host}:{login.port}"
        return ("-i", str(login.key), "-H", where, "unprovision", *more)

    def types(self, *more: str) -> Ran:
        self._box.host.close()
        return command("fab", *self._words(*more), state=self._state, home=self._home)

    def is_refused(self, *more: str) -> str:
        """The last line."""
        ran = self.types(*more)
        assert ran.code == 1
        return ran.stderr.strip().splitlines()[-1]

    def presses_ctrl_c(self, *more: str, at: str) -> None:
        """While the host goes down for the reboot that it was told; waits until it is up."""
        self._box.host.close()
        guest = self._box.guest

        def goes_down() -> None:
            guest.wait_for_serial("reboot: Restarting system", DEADLINE, guest.console.size)

        words = self._words(*more)
        ran = interrupted("fab", *words, at=at, state=self._state, home=self._home, until=goes_down)
        assert ran.code == 130
        self._box.host.wait(DEADLINE)


def reset(box: Box) -> None:
    """Press the reset button of a host, and wait until it is up."""
    before = box.state.boot_id
    box.host.close()
    box.guest.reset()
    box.host.wait_for_boot(before, DEADLINE)


def test_a_plain_host_gets_its_disk_back_wiped(start: Start, shared: Path, tmp_path: Path) -> None:
    """By BIOS. Ctrl-C comes while it boots its old root; the second command goes on there."""
    with start(bare.build(BIOS_HOST, shared), spare=12 * GIB) as box:
        was, code = whole(box), box.succeed(_BOOT_CODE)
        user = User(box, tmp_path)
        assert "it is no box: there is nothing to give back" in user.is_refused("--force")
        assert box.provision(device="/dev/vdb").changed
        assert box.succeed(_BOOT_CODE) != code
        box.succeed("echo mine >/persistent/data")

        assert "/dev/vdb is erased, and /persistent (" in user.is_refused("--wipe")
        user.presses_ctrl_c("--wipe", "--force", at="booting the old root")
        assert box.succeed("findmnt --noheadings --output SOURCE /").strip() == "/dev/vda1"
        ran = user.types("--wipe", "--force")
        assert ran.code == 0, ran.stderr
        assert "no box any more" in ran.stdout

        assert box.succeed(_BOOT_CODE) == code
        assert box.succeed("wipefs --noheadings /dev/vdb").strip() == ""
        assert differences(was, whole(box)) == []
        reset(box)
        assert box.state.verdict is None
        assert box.succeed("findmnt --noheadings --output SOURCE /").strip() == "/dev/vda1"


def test_a_plain_host_by_uefi_leaves_the_box_on_its_disk(
    shared: Path, accel: accelerator.Accelerator, tmp_path: Path
) -> None:
    with host(PLAIN_HOST, SECURE, tmp_path, shared, accel) as box:
        make_entry(box)
        box.reboot()  # the firmware writes its own entries
        was, had, order = whole(box), entries(box), boot_variable(box, "BootOrder")
        assert box.provision(device="/dev/vdb").changed
        user = User(box, tmp_path)

        planned = user.types("--dry-run")
        assert planned.code == 0
        for words in ("boot entry", "BOOTX64.EFI", "keep"):
            assert words in planned.stdout
        ran = user.types("--force")
        assert ran.code == 0, ran.stderr

        assert (entries(box), boot_variable(box, "BootOrder")) == (had, order)
        assert differences(was, whole(box)) == []
        assert "nothing to give back" in user.is_refused("--force")
        reset(box)
        assert boot_variable(box, "BootCurrent") == had["debian"]
        assert box.succeed("lvs --noheadings --options lv_name").split() != []


def test_a_root_on_lvm_is_what_it_was(
    shared: Path, accel: accelerator.Accelerator, tmp_path: Path
) -> None:
    """By UEFI, without a removable path, and with a password in GRUB's menu.

    Ctrl-C comes while it boots its old root; the second command goes on there.
    """
    with host(LVM_HOST, PLAIN, tmp_path, shared, accel) as box:
        box.succeed("rm --recursive /boot/efi/EFI")
        box.succeed("dpkg --purge --force-remove-protected shim-signed grub-efi-amd64-signed")
        box.succeed(f"grub-install && {{ {PASSWORD} {_OPEN} }}")
        was, had, order = whole(box), entries(box), boot_variable(box, "BootOrder")
        volumes = box.succeed("lvs --noheadings --options lv_name,lv_size,lv_attr; vgs")
        assert box.provision().changed
        assert box.verdict.name == "fresh"
        box.succeed("echo mine >/persistent/data")

        user = User(box, tmp_path)
        refused = user.is_refused()
        assert "/persistent (" in refused
        assert "Say --force if that is meant." in refused
        user.presses_ctrl_c("--force", at="booting the old root")
        assert not box.state.is_box
        ran = user.types("--force")
        assert ran.code == 0, ran.stderr

        now = box.succeed("lvs --noheadings --options lv_name,lv_size,lv_attr; vgs")
        assert now == volumes
        assert (entries(box), boot_variable(box, "BootOrder")) == (had, order)
        assert differences(was, whole(box)) == []
        assert "nothing to give back" in user.is_refused("--force")
        reset(box)
        assert (box.state.verdict, box.state.is_box) == (None, False)
        assert boot_variable(box, "BootCurrent") == had["debian"]
