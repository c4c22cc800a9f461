"""A host with one disk becomes a box in a file on its own root, and stays the host that it was.

By `fab`, as a user does it. The tests are one walk, in order, for each kind of host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploys.operations.root import FILE, HOST
from tasks.desk import loop, shell
from tasks.disks import partitions, volume_group
from tasks.guests import bare
from tasks.guests.qemu import accelerator
from tests.boot.conftest import GIB, INSTALLED, Start
from tests.boot.hosts.whole_host import differences, whole
from tests.boot.lab.box import (
    DEADLINE,
    LEAN,
    Box,
    Ran,
    becomes_a_box,
    command,
    flags,
    home_that_knows,
    reached,
)
from tests.boot.lab.recipes import SERVER, Recipe
from tests.boot.lab.uefi import SECURE, Firmware, boot_variable, entries, host, make_entry
from tests.hosts.guest import Guest

pytestmark = pytest.mark.long

SETTINGS = (*LEAN, "volumes.persistent_size=256M", "volumes.swap_size=64M")
ONE_DISK = Recipe(disk_size=12 * GIB, extra=(*SERVER, *INSTALLED))
DEBIAN_12 = replace(ONE_DISK, suite="bookworm")


@dataclass(frozen=True)
class Kind:
    """A kind of host: its disk, its firmware (None: BIOS), the device of its root.

    ``boot`` is where the box's /boot is; empty: in a folder on that root.
    """

    recipe: Recipe = ONE_DISK
    firmware: Firmware | None = None
    root: str = "/dev/vda1"
    boot: str = ""

    def started(
        self, start: Start, shared: Path, accel: accelerator.Accelerator, folder: Path
    ) -> AbstractContextManager[Box]:
        if self.firmware is None:
            return start(bare.build(self.recipe, shared))
        return host(self.recipe, self.firmware, folder, shared, accel, spare=0)


BY_UEFI = replace(ONE_DISK, firmware="uefi", extra=(*ONE_DISK.extra, "dosfstools"))
XFS = replace(BY_UEFI, filesystem="xfs", extra=(*BY_UEFI.extra, "xfsprogs"))
# As Debian's installer leaves it, with all of the volume group in the root.
FULL_LVM = Recipe("lvm", disk_size=12 * GIB, root_size=None, extra=INSTALLED)
KINDS = {
    "bios": Kind(),
    "lvm": Kind(FULL_LVM, root="/dev/mapper/debian--vg-root", boot="/dev/vda1[/pipeline]"),
    "xfs": Kind(XFS, SECURE, "/dev/vda2"),
}
SNAPSHOT = "/dev/mapper/vagrant--pipeline-root_snap"
# All that makes the host what it is, but for what LVM notes of its groups, and the box's own /boot.
FINGERPRINT = (
    "find /boot /etc /usr -xdev -path /etc/lvm -prune -o -path /boot/pipeline -prune"
    " -o -type f -print0 | sort --zero-terminated | xargs --null sha256sum"
)
# An ext4 root of a host is checked before it is mounted. This is in the log of that after a cut.
RECOVERED = "grep -q 'recovering journal' /run/initramfs/fsck.log"
CHECKS = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def home(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - one each
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def box(
    kind: Kind,
    start: Start,
    shared: Path,
    accel: accelerator.Accelerator,
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Box]:
    with kind.started(start, shared, accel, tmp_path_factory.mktemp("disks")) as host:
        if kind.firmware:
            make_entry(host)
        home_that_knows(host, home)
        yield host


@pytest.fixture(scope="module")
def before(box: Box) -> list[str]:
    """The host's files, with the sums of what is in them."""
    return box.succeed(FINGERPRINT).splitlines()


@pytest.fixture(scope="module")
def was(box: Box, before: list[str]) -> dict[str, str]:  # noqa: ARG001 - of the same time
    """The whole host before it was a box."""
    return whole(box)


def fab(box: Box, home: Path, *words: str) -> Ran:
    login = box.guest.login
    where = ("-H", f"vagrant@{login.host}:{login.port}", "-i", str(login.key))
    return command("fab", *where, *words, state=home, home=home)


def root_of(box: Box) -> str:
    return box.succeed("findmnt --noheadings --output SOURCE /").strip()


@pytest.mark.usefixtures("was")
def test_the_plan_says_that_it_lies_in_a_file(box: Box, home: Path, before: list[str]) -> None:
    ran = fab(box, home, "provision", "--dry-run", *flags(SETTINGS))
    assert ran.code == 0, ran.stderr
    said = " ".join(ran.stdout.split())
    assert "/pipeline/box.img" in said
    assert "last in GRUB's menu" in said
    box.fail("test -e /pipeline")
    assert box.succeed(FINGERPRINT).splitlines() == before


def test_it_becomes_a_box(box: Box, home: Path) -> None:
    ran = fab(box, home, "provision", *flags(SETTINGS))
    assert ran.code == 0, ran.stderr
    assert box.verdict.name == "fresh"
    assert root_of(box) == SNAPSHOT
    assert box.state.initrd_matches
    assert box.state.defaults["VOLFILE"] == FILE
    assert box.succeed(f"losetup --noheadings --output DIO --associated {HOST}{FILE}").split() == [
        "1"
    ]
    assert not box.provision(*SETTINGS).changed


def test_a_reset_takes_all_but_persistent(box: Box) -> None:
    box.succeed("touch /etc/of-this-snapshot /persistent/stays")
    box.reboot()
    assert box.verdict.name == "fresh"
    box.fail("test -e /etc/of-this-snapshot")
    box.succeed("test -e /persistent/stays")


def test_the_hosts_root_was_left_clean(box: Box, kind: Kind) -> None:
    """It was mounted to the end of the last boot. XFS has a log after a freeze, too."""
    if kind.recipe.filesystem == "xfs":
        return
    box.succeed("grep -q clean /run/initramfs/fsck.log")
    box.fail(RECOVERED)


def test_only_root_gets_at_the_hosts_root(box: Box) -> None:
    """And no worker writes there; of a job /run is hidden (tests/storage/roles)."""
    box.succeed(f"test -e {HOST}/etc/fstab")
    box.fail(f"setpriv --reuid=nobody --clear-groups ls {HOST}")
    confined = "systemd-run --quiet --wait --property=ProtectSystem=strict"
    box.fail(f"{confined} touch {HOST}/etc/of-a-worker")
    box.fail(f"test -e {HOST}/etc/of-a-worker")


def test_no_discard_gives_the_file_s_blocks_back(box: Box) -> None:
    allocated = f"stat --format='%b %s' {HOST}{FILE}"
    blocks, size = map(int, box.succeed(allocated).split())
    assert blocks * 512 >= size
    box.succeed("dd if=/dev/zero of=/persistent/large bs=1M count=64 conv=fsync status=none")
    box.succeed("rm /persistent/large; sync; fstrim /persistent || :")
    assert int(box.succeed(allocated).split()[0]) >= blocks


def test_it_is_kept_when_that_is_said(box: Box) -> None:
    box.succeed("touch /etc/of-this-snapshot")
    box.reboot("keep")
    assert box.verdict.name == "kept"
    box.succeed("test -e /etc/of-this-snapshot")


def test_a_change_is_tried_and_kept(box: Box) -> None:
    """In maintenance, with /boot from the host's root, and by boots that GRUB counts."""
    assert box.provision(*SETTINGS, "boot.deadline=50").changed
    assert box.verdict.name == "fresh"
    assert not box.state.in_trial
    assert box.state.rolled_back is None
    assert box.succeed("grep DEADLINE /etc/default/resnap").strip() == "DEADLINE=50"


def test_maintenance_has_boot_from_the_hosts_root(box: Box, kind: Kind) -> None:
    box.reboot("maintenance")
    assert box.verdict.name == "golden"
    assert root_of(box) == "/dev/mapper/vagrant--pipeline-root"
    assert box.succeed("findmnt --noheadings --output SOURCE /boot").strip() == (
        kind.boot or f"{kind.root}[/pipeline/boot]"
    )
    if kind.firmware:
        box.succeed("test -e /boot/efi/EFI/pipeline/grubx64.efi")
    box.reboot()
    assert box.verdict.name == "fresh"
    box.fail("mountpoint -q /boot")
    assert box.state.free["/boot"] > 0


def test_after_a_power_cut_all_is_whole(
    box: Box, kind: Kind, accel: accelerator.Accelerator
) -> None:
    write = "while :; do dd if=/dev/urandom of={}/of-a-cut bs=64k count=400 conv=fsync; done"
    for place in ("/var/tmp", "/persistent", HOST):
        box.succeed(
            f"systemd-run --quiet sh -c '{write.format(place)}'; sleep 5; test -s {place}/of-a-cut"
        )
    guest = box.guest
    box.host.close()
    guest.cut_power()
    with (
        Guest.start(guest.directory, guest.machine, guest.identity, accel) as again,
        reached(again, SETTINGS) as box,
    ):
        assert box.verdict.name == "fresh"
        if kind.recipe.filesystem == "ext4":
            box.succeed(RECOVERED)
        box.fail("test -e /var/tmp/of-a-cut")
        box.succeed("test -e /persistent/stays")
        box.succeed(f"rm {HOST}/of-a-cut")
        box.reboot()
        assert box.verdict.name == "fresh"
        box.fail(RECOVERED)
        box.host.close()


def test_the_old_system_is_what_it_was_and_is_given_back(
    box: Box,
    kind: Kind,
    before: list[str],
    was: dict[str, str],
    accel: accelerator.Accelerator,
    tmp_path: Path,
) -> None:
    """All its files are, and its filesystem is whole."""
    guest = box.guest
    with (
        Guest.start(guest.directory, guest.machine, guest.identity, accel) as again,
        reached(again, SETTINGS) as box,
    ):
        home = home_that_knows(box, tmp_path)
        assert box.reboot("old-root").verdict is None
        assert root_of(box) == kind.root
        assert box.succeed(FINGERPRINT).splitlines() == before
        box.reboot()
        assert box.verdict.name == "fresh"
        asked = fab(box, home, "unprovision").stderr
        assert "/pipeline/box.img is removed, and /persistent (" in asked
        assert root_of(box) == SNAPSHOT
        ran = fab(box, home, "unprovision", "--force")
        assert ran.code == 0, ran.stderr
        assert root_of(box) == kind.root
        assert differences(was, whole(box)) == []
        assert box.reboot().verdict is None
        assert root_of(box) == kind.root
        if kind.firmware:
            assert "pipeline" not in entries(box)
            assert boot_variable(box, "BootCurrent") == entries(box)["debian"]
        box.host.close()
        again.halt(DEADLINE)
    disk = tmp_path / "disk.raw"
    shell.run(["qemu-img", "convert", "-O", "raw", guest.directory / "root.qcow2", disk])
    part = partitions.extents(disk)[-1]
    if kind.recipe.kind == "lvm":
        part = volume_group.find(disk, part, kind.recipe.volgroup)["root"]
    with loop.attached(disk, offset=part.offset, size=part.size) as device:
        shell.run([*CHECKS[kind.recipe.filesystem], device])


def test_debian_12_becomes_one_too(start: Start, shared: Path) -> None:
    with start(bare.build(DEBIAN_12, shared)) as box:
        assert box.state.os_version == "12"
        becomes_a_box(box)
        assert box.state.defaults["VOLFILE"] == FILE
        assert root_of(box) == SNAPSHOT
        box.fail(RECOVERED)
        box.reboot("maintenance")
        assert box.verdict.name == "golden"
        assert box.reboot("old-root").verdict is None
        assert root_of(box) == "/dev/vda1"
