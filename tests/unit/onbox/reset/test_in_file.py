"""The initramfs of a box in a file: the host's root is mounted, and the box's takes its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.onbox.initramfs import DIRTY, RESNAP, Initramfs, skeleton

pytestmark = pytest.mark.commands

BOTTOM = RESNAP.parents[3] / "etc/initramfs-tools/scripts/local-bottom/resnap"
SHUTDOWN = RESNAP.parents[1] / "systemd/system-shutdown/resnap"
SNAPSHOT = "/dev/mapper/vagrant--pipeline-root_snap"
GOLDEN = "/dev/mapper/vagrant--pipeline-root"
TOOL = 'echo "${0##*/} $*" >>/fake/calls; [ ! -e "/fake/${0##*/}-fails" ]'
# As much of initramfs-tools' functions as the script uses.
FUNCTIONS = """
checkfs() { echo "checkfs $*" >>/fake/calls; }
panic() { echo "panic $*" >>/fake/calls; exit 1; }
"""
FILE = "/run/initramfs/host/pipeline/box.img"
ATTACHED = [
    "mount -o move /root /run/initramfs/host",
    "mount -o remount,rw none /run/initramfs/host",
    "modprobe loop",
    f"losetup --find --show --direct-io=on {FILE}",
]


@pytest.fixture
def box(tmp_path: Path) -> Initramfs:
    root = tmp_path / "root"
    skeleton(root, Path("/bin/sh").resolve())
    box = Initramfs(root)
    (root / "usr/lib/resnap/resnap").chmod(0o755)
    shutil.copy(BOTTOM, root / "bottom")
    box.write("scripts/functions", FUNCTIONS)
    box.program("sbin/modprobe", TOOL)
    # A mount moves what box.mount says of the root.
    box.program("sbin/mount", TOOL)
    box.program("usr/lib/resnap/losetup", TOOL + " && echo /dev/loop5")
    box.write(f"{FILE[1:]}.new")
    box.write("sys/block/loop5/queue/discard_max_bytes", "4294966784\n")
    box.has_snapshot(DIRTY)
    return box


def bottom(box: Initramfs, *words: str, boxroot: str = SNAPSHOT) -> int:
    """Run the script of local-bottom for these arguments of the kernel; its exit code."""
    more = (f"boxroot={boxroot}", "volfile=/pipeline/box.img", *words)
    box.cmdline(*more, root="UUID=OLD-UUID")
    box.mount(boxroot.rpartition("/")[2])
    assert box.run("premount") == 0  # as before the host's root was there
    assert not (box.root / "run/resnap").exists()
    return box.within("/bin/sh", "-c", "rootmnt=/root; . /bottom").returncode


def test_the_snapshot_is_taken_anew_and_takes_the_place_of_the_hosts_root(box: Initramfs) -> None:
    assert bottom(box, "resnap") == 0
    assert box.verdict == "fresh"
    assert box.calls[:4] == ATTACHED
    assert box.calls[-2:] == [f"checkfs {SNAPSHOT} box ext4", f"mount -r -t ext4 {SNAPSHOT} /root"]
    assert any("lvcreate" in call for call in box.calls)


def test_the_first_boot_gives_the_file_its_name(box: Initramfs) -> None:
    """Before it, a provision begins anew."""
    file = box.root / FILE[1:]
    for _ in range(2):
        assert bottom(box, "resnap") == 0
        assert [each.name for each in file.parent.iterdir()] == [file.name]
        shutil.rmtree(box.root / "run/resnap")


def test_no_discard_takes_the_files_blocks(box: Initramfs) -> None:
    bottom(box, "resnap")
    assert box.lines("sys/block/loop5/queue/discard_max_bytes") == ["0"]


def test_it_is_kept_where_the_flag_is_missing(box: Initramfs) -> None:
    assert bottom(box) == 0
    assert box.verdict == "kept"
    assert not any("lvcreate" in call for call in box.calls)


def test_maintenance_mounts_the_golden_root(box: Initramfs) -> None:
    assert bottom(box, boxroot=GOLDEN) == 0
    assert box.verdict == "golden"
    assert box.calls[-1] == f"mount -r -t ext4 {GOLDEN} /root"


def test_without_a_snapshot_the_golden_root_is_booted_and_called_failed(box: Initramfs) -> None:
    box.write("fake/refuses", "  no room\n")
    box.write(f"fake/status/{SNAPSHOT.rpartition('/')[2]}", "0 8388608 snapshot Invalid\n")
    assert bottom(box, "resnap") == 0
    assert box.verdict == "failed"
    assert box.calls[-1] == f"mount -r -t ext4 {GOLDEN} /root"


@pytest.mark.parametrize("tool", ["mount", "losetup"])
def test_a_file_that_cannot_be_used_ends_the_boot(box: Initramfs, tool: str) -> None:
    """The host's own root is not booted in its place: it is no box."""
    box.write(f"fake/{tool}-fails")
    assert bottom(box, "resnap") == 1
    assert box.calls[-1] == ("panic resnap: the box's file cannot be used: see /run/resnap/log")


def test_a_file_without_the_group_ends_the_boot_at_the_deadline(box: Initramfs) -> None:
    box.write("fake/appears_at", "1000\n")
    assert bottom(box, "resnap") == 1
    assert box.calls[-1].startswith("panic resnap: the box's file cannot be used")


@pytest.mark.parametrize("mounted", [True, False])
def test_at_the_end_of_a_shutdown_the_hosts_root_is_frozen(box: Initramfs, mounted: bool) -> None:
    shutil.copy(SHUTDOWN, box.root / "shutdown")
    box.program("sbin/mountpoint", f"[ $2 = /run/initramfs/host ] && {str(mounted).lower()}")
    box.program("sbin/fsfreeze", TOOL)
    assert box.within("/bin/sh", "/shutdown", "poweroff").returncode == 0
    assert box.calls == ["fsfreeze --freeze /run/initramfs/host"] * mounted


def test_the_initrd_of_another_box_has_no_part_of_it(box: Initramfs) -> None:
    (box.root / "usr/lib/resnap/losetup").unlink()
    assert box.boot() == "fresh"
    assert box.within("/bin/sh", "-c", "rootmnt=/root; . /bottom").returncode == 0
    assert not any(call.startswith(("mount", "checkfs")) for call in box.calls)
