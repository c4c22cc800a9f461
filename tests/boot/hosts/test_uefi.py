"""Hosts that UEFI started become boxes: by Secure Boot a plain one (kind a), one on LVM (kind b).

Each guest has an NVRAM of its own, so boot entries stay from boot to boot; emptied, as by a dead
battery, it leaves the firmware the removable path.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.guests.qemu import accelerator
from tests.boot.lab.box import DEADLINE, Box
from tests.boot.lab.recipes import GATHERED
from tests.boot.lab.uefi import (
    LVM_HOST,
    PLAIN,
    PLAIN_HOST,
    SECURE,
    boot_variable,
    entries,
    host,
    make_entry,
    starts_by_both,
)
from tests.hosts.guest import Guest

pytestmark = pytest.mark.slow

REINSTALL = (
    "env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --reinstall install "
)


def boots_without_entries(box: Box, accel: accelerator.Accelerator, empty: Path) -> str:
    """Cut the box's power, lose its NVRAM, and boot it until its root is mounted, and fresh.

    What the console said of that boot; the box is off then.
    """
    guest, machine = box.guest, box.guest.machine
    box.host.close()
    guest.cut_power()
    shutil.copy(empty, guest.directory / "nvram.fd")
    before = guest.console.size
    with Guest.start(guest.directory, machine, guest.identity, accel) as again:
        again.wait_for_serial("resnap: verdict: fresh", DEADLINE, before)
        return again.console.text(before)


@pytest.fixture(scope="module")
def box(
    shared: Path, accel: accelerator.Accelerator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    """Kind a, which had an entry and a removable path of its own, as installers leave them."""
    folder = tmp_path_factory.mktemp("uefi")
    with host(PLAIN_HOST, SECURE, folder, shared, accel) as box:
        make_entry(box)
        box.succeed(GATHERED)
        assert box.provision(device="/dev/vdb").changed
        yield box


def test_its_entry_is_the_first_and_the_old_one_stays(box: Box) -> None:
    assert box.verdict.name == "fresh"
    assert (box.state.firmware, box.state.secure_boot) == ("uefi", True)
    found = entries(box)
    assert boot_variable(box, "BootOrder").startswith(f"{found['pipeline']},{found['debian']},")
    assert boot_variable(box, "BootCurrent") == found["pipeline"]
    assert r"\EFI\pipeline\shimx64.efi" in box.guest.console.text()


def test_no_boot_waited_for_a_swap_that_is_gone(box: Box) -> None:
    said = box.guest.console.text()
    assert "resnap: verdict: fresh" in said
    assert "suspend/resume device" not in said


def test_without_its_entry_the_removable_path_would_be_found(box: Box) -> None:
    starts_by_both(box)


def test_the_loader_is_out_of_the_snapshots_reach(box: Box) -> None:
    box.fail("mountpoint -q /boot || mountpoint -q /boot/efi")
    assert (
        box.succeed("timeout 300 systemctl is-system-running --wait || systemctl --failed").strip()
        == "running"
    )


@pytest.mark.long
def test_an_upgrade_of_grub_renews_both_and_takes_away_no_entry(box: Box) -> None:
    box.reboot("maintenance")
    before = entries(box)
    box.succeed("rm /boot/efi/EFI/BOOT/BOOTX64.EFI /boot/efi/EFI/*/*x64.efi")
    box.succeed(f"{REINSTALL} grub-efi-amd64 shim-signed")
    assert entries(box) == before
    pairs = "BOOT/BOOTX64.EFI pipeline/shimx64.efi", "BOOT/grubx64.efi pipeline/grubx64.efi"
    for pair in pairs:
        box.succeed(f"cd /boot/efi/EFI && cmp {pair}")
    box.fail("test -e /boot/efi/EFI/debian")
    box.reboot()
    assert box.verdict.name == "fresh"


def test_the_old_root_is_a_way_back(box: Box) -> None:
    assert box.reboot("old-root").verdict is None
    assert box.succeed("findmnt --noheadings --output SOURCE /").strip() == "/dev/vda2"


@pytest.mark.long
def test_the_old_root_is_reclaimed(box: Box) -> None:
    box.reboot()
    assert box.provision(reclaim=True).changed
    assert box.succeed("pvs --noheadings --options vg_name").split() == ["vagrant-pipeline"] * 2
    assert boot_variable(box, "BootCurrent") == entries(box)["pipeline"]


# Last: it leaves the box off.
@pytest.mark.long
def test_without_its_entries_it_comes_up_by_the_removable_path(
    box: Box, accel: accelerator.Accelerator
) -> None:
    assert r"\EFI\pipeline" not in boots_without_entries(box, accel, SECURE[1])


@pytest.mark.long
def test_a_host_on_lvm_keeps_its_loader_and_gets_the_removable_path(
    shared: Path, accel: accelerator.Accelerator, tmp_path: Path
) -> None:
    """One walk, with a GRUB that is not signed: grub-install's own, and no removable path."""
    with host(LVM_HOST, PLAIN, tmp_path, shared, accel) as box:
        box.succeed("rm --recursive /boot/efi/EFI")
        box.succeed("dpkg --purge --force-remove-protected shim-signed grub-efi-amd64-signed")
        box.succeed("grub-install")
        assert box.provision().changed
        assert (box.verdict.name, box.state.secure_boot) == ("fresh", False)
        box.fail("mountpoint -q /boot || mountpoint -q /boot/efi")
        assert boot_variable(box, "BootOrder").startswith(entries(box)["debian"])
        assert not box.provision().changed

        box.reboot("maintenance")
        box.succeed("rm /boot/efi/EFI/BOOT/* /boot/grub/x86_64-efi/normal.mod")
        box.succeed(f"{REINSTALL} grub-efi-amd64")
        box.succeed("cd /boot/efi/EFI && cmp BOOT/BOOTX64.EFI debian/grubx64.efi")
        assert box.reboot("keep").verdict is not None
        assert r"\EFI\debian" not in boots_without_entries(box, accel, PLAIN[1])
