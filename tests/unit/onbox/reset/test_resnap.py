"""The reset, run for real in a small root: what it does at boot, and what it says came of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.onbox.initramfs import DIRTY, FRESH, RESNAP, Initramfs, skeleton

pytestmark = pytest.mark.commands

# Debian's initramfs without busybox has klibc's shell; where that is installed it runs them all.
SHELLS = [
    pytest.param(Path(path), id=name)
    for name, path in (("dash", "/bin/dash"), ("klibc", "/usr/lib/klibc/bin/sh"))
    if Path(path).exists()
]
Make = Callable[..., Initramfs]

MERGE = "lvconvert --yes --interval 1 --merge vagrant-pipeline/root_safety"
REMOVE = "lvremove --force vagrant-pipeline/root_snap"
TAKE = (
    "lvcreate --yes --snapshot --name root_snap --chunksize 64K -l 100%ORIGIN vagrant-pipeline/root"
)
TABLE = "0 8388608 snapshot 253:2 253:3 P 128"
COW = "/dev/mapper/vagrant--pipeline-root_snap-cow"
EMPTY = [
    "dmsetup suspend vagrant--pipeline-root",
    "dmsetup wipe_table vagrant--pipeline-root_snap",
    f"dd if=/dev/zero of={COW} bs=4k count=1 conv=fsync",
    f"dd if=/dev/zero of={COW} bs=4k seek=1 count=255 conv=fsync",
    f"blkdiscard --force --offset 1048576 {COW}",
    f"dmsetup load vagrant--pipeline-root_snap --table {TABLE}",
    "dmsetup resume vagrant--pipeline-root_snap",
    "dmsetup resume vagrant--pipeline-root",
]
TAKE_PLACE = RESNAP.parents[1] / "dracut/modules.d/90resnap/take-place"
GIB = 2 * 2**20  # in sectors
# What lvcreate makes of 100%ORIGIN for 4 GiB, in chunks of 64 KiB and extents of 4 MiB.
FULL = 4 * GIB + 8192
ACTIVATE = "vgchange --sysinit -ay vagrant-pipeline"


@pytest.fixture(scope="session", params=SHELLS)
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("initramfs")
    skeleton(root, request.param)
    return root


@pytest.fixture
def make(parts: Path, tmp_path: Path) -> Make:
    root = tmp_path / "root"
    shutil.copytree(parts, root, copy_function=os.link)
    return lambda **names: Initramfs(root, **names)


@pytest.fixture
def box(make: Make) -> Initramfs:
    return make()


def test_the_old_snapshot_is_thrown_away_and_taken_anew(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    assert box.boot() == "fresh"
    assert box.calls == [REMOVE, TAKE]
    notes = box.notes
    assert (notes["mode"], notes["mounted"]) == ("resnap", "vagrant--pipeline-root_snap")
    assert notes["initrd"] == "0123abcd"
    assert "reason" not in notes
    times = [float(notes[name]) for name in ("started", "disk", "finished", "verdict_at")]
    assert times == sorted(times)
    assert box.said.endswith("resnap: verdict: fresh\n")


def test_a_snapshot_of_the_size_asked_for_is_emptied_where_it_is(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, FULL)
    assert box.boot() == "fresh"
    assert box.calls == EMPTY


def test_a_disk_that_takes_no_discards_is_no_fault(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, FULL)
    box.write("fake/blkdiscard-fails", "")
    assert box.boot() == "fresh"
    assert box.calls == EMPTY


@pytest.mark.parametrize("verb", ["suspend", "wipe_table", "load"])
def test_what_cannot_be_emptied_is_made_anew(box: Initramfs, verb: str) -> None:
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, FULL)
    box.write("fake/fails", f"{verb}\n")
    assert box.boot() == "fresh"
    assert box.calls[-3:] == [EMPTY[-1], REMOVE, TAKE]


def test_a_header_that_cannot_be_written_is_never_called_fresh(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, FULL)
    box.write("fake/dd-fails", "")
    box.write("fake/busy", "ever\n")
    assert box.boot() == "failed"


def test_an_emptied_snapshot_is_fresh_only_by_the_kernels_word(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, FULL)
    box.write("fake/status.new", DIRTY)
    assert box.boot() == "failed"
    assert box.calls[: len(EMPTY) + 2] == [*EMPTY, REMOVE, TAKE]


# Sizes of volumes as lvcreate made them, for an origin of 4 GiB in extents of 4 MiB.
@pytest.mark.parametrize(
    ("lvsize", "cow", "emptied"),
    [
        ("100%ORIGIN", FULL, True),
        ("", FULL, True),
        ("100%ORIGIN", FULL - 8192, False),
        ("100%ORIGIN", FULL + 16384, False),
        ("50%ORIGIN", 2 * GIB + 8192, True),
        ("50%ORIGIN", FULL, False),
        ("2G", 2 * GIB, True),
        ("2048M", 2 * GIB, True),
        ("2G", 2 * GIB + 16384, False),
        ("3G", 2 * GIB, False),
        ("8G", FULL, True),  # lvcreate makes none that is larger than can be used
        ("1T", FULL, True),
        ("1.5G", FULL, False),
        ("50%FREE", FULL, False),
        ("%ORIGIN", FULL, False),
        ("4096", FULL, False),
        ("G", FULL, False),
    ],
)
def test_a_snapshot_of_another_size_is_made_anew(
    make: Make, lvsize: str, cow: int, emptied: bool
) -> None:
    box = make(lvsize=lvsize)
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, cow)
    assert box.boot() == "fresh"
    assert (box.calls == EMPTY) is emptied
    assert (box.calls[0] == REMOVE) is not emptied


@pytest.mark.parametrize(("chunk", "chunksize"), [(64, "64K"), (128, "32K"), (1280, "64K")])
def test_a_snapshot_of_other_chunks_is_made_anew(
    box: Initramfs, chunk: int, chunksize: str
) -> None:
    box.has_snapshot(DIRTY)
    box.has_volumes(4 * GIB, FULL, chunk)
    box.write("etc/default/resnap", f"CHUNKSIZE={chunksize}\n")
    assert box.boot() == "fresh"
    assert box.calls[0] == REMOVE


def test_lvm_is_told_to_discard_to_write_no_backup_and_to_reserve_no_memory(
    box: Initramfs,
) -> None:
    box.boot()
    calls = (box.root / "fake/calls").read_text().splitlines()
    assert len(calls) == 2
    for call in calls:
        assert "issue_discards=1" in call
        assert "backup{backup=0 archive=0}" in call
        assert "activation/reserved_memory=0" in call


def test_a_snapshot_that_a_power_cut_took_away_is_taken(box: Initramfs) -> None:
    assert box.boot() == "fresh"
    assert box.calls == [REMOVE, TAKE]


def test_a_busy_snapshot_is_tried_again(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.write("fake/busy", "2\n")
    assert box.boot() == "fresh"
    assert box.calls == [REMOVE, TAKE, "sleep 1"] * 2 + [REMOVE, TAKE]
    assert "cannot take vagrant-pipeline/root_snap anew yet" in box.said


def test_a_snapshot_busy_for_ever_is_booted_and_called_failed(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.write("fake/busy", "ever\n")
    assert box.boot() == "failed"
    assert box.calls.count("sleep 1") == 5  # the deadline, in seconds
    assert box.notes["reason"] == 'Logical Volume "the snapshot" already exists'
    assert box.notes["mounted"] == box.snapshot
    assert not (box.root / "conf/param.conf").exists()


def test_without_any_snapshot_the_golden_root_is_booted_and_called_failed(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.write("fake/refuses", '  Volume group "vagrant-pipeline" has insufficient free space\n')
    assert box.boot() == "failed"
    assert box.notes["reason"] == 'Volume group "vagrant-pipeline" has insufficient free space'
    assert box.notes["mounted"] == box.origin
    param = (box.root / "conf/param.conf").read_text()
    assert param == "ROOT=/dev/mapper/vagrant--pipeline-root\n"


@pytest.mark.parametrize("exists", [True, False])
def test_in_dracuts_initramfs_the_golden_root_takes_the_snapshots_name(
    box: Initramfs, exists: bool
) -> None:
    shutil.copy(TAKE_PLACE, box.root / "usr/lib/resnap/take-place")
    (box.root / "etc/udev/rules.d").mkdir(parents=True)
    if exists:
        box.has_snapshot("0 8 snapshot Invalid")
    box.write("fake/refuses", '  Volume group "vagrant-pipeline" has insufficient free space\n')
    assert box.run("premount") == 0
    assert box.outcome == "failed"
    assert not (box.root / "conf/param.conf").exists()
    removed = "dmsetup remove --retry vagrant--pipeline-root_snap" in box.calls
    assert removed == (box.root / "dev/mapper" / box.snapshot).exists()
    rules = (box.root / "etc/udev/rules.d/98-resnap.rules").read_text()
    assert rules == (
        'ENV{DM_NAME}=="vagrant--pipeline-root", SYMLINK+="mapper/vagrant--pipeline-root_snap"\n'
    )


@pytest.mark.parametrize("status", ["0 8 snapshot Invalid", "0 8 snapshot Overflow", "0 8 error "])
def test_a_snapshot_that_cannot_be_read_is_not_booted(box: Initramfs, status: str) -> None:
    box.has_snapshot(status)
    box.write("fake/busy", "ever\n")
    assert box.boot() == "failed"
    assert box.notes["mounted"] == box.origin
    assert "to be reached and mended" in box.said


def test_a_silent_lvm_is_said_to_be_silent(box: Initramfs) -> None:
    box.write("fake/refuses", "")
    box.write("fake/status.new", "")
    box.run("premount")
    assert box.outcome == "failed"
    # Only lvremove's line, which is no reason, was there to be read.
    assert "reason=" in (box.root / "run/resnap/notes").read_text()


def test_a_disk_that_comes_late_is_waited_for(box: Initramfs) -> None:
    box.write("fake/appears_at", "6\n")
    assert box.boot() == "fresh"
    assert box.calls == [ACTIVATE, "sleep 1"] * 3 + [REMOVE, TAKE]
    assert float(box.notes["disk"]) - float(box.notes["started"]) == 3


def test_a_group_that_udev_left_inactive_is_activated_without_delay(box: Initramfs) -> None:
    box.write("fake/appears_at", "999\n")
    box.write("fake/lvm_activates", "")
    assert box.boot() == "fresh"
    assert box.calls == [ACTIVATE, REMOVE, TAKE]


def test_a_disk_after_the_deadline_is_reset_by_a_later_call(box: Initramfs) -> None:
    box.write("fake/appears_at", "999\n")
    assert box.run("premount") == 0
    assert box.outcome is None
    assert "no vagrant-pipeline/root yet" in box.said
    assert box.run("block") == 0
    assert box.outcome is None
    box.write("fake/lvm_activates", "")
    assert box.run("block") == 0
    assert box.outcome == "fresh"
    calls = box.calls
    assert box.run("block") == 0
    assert box.calls == calls  # what is done is not done again
    box.mount(box.snapshot)
    box.run("verdict", "/root")
    assert box.verdict == "fresh"


def test_the_deadline_is_two_minutes_if_nothing_else_is_said(box: Initramfs) -> None:
    (box.root / "etc/default/resnap").unlink()
    box.write("fake/appears_at", "999\n")
    box.run("premount")
    assert box.calls.count("sleep 1") == 120


# LVM writes from the start again when it comes to the end. The group that was there before had
# more texts; "other" is another one.
FOUND = """  Searching for metadata at offset 4096 size 1044480
  metadata at 4608 length 729 crc e406b687 vg vagrant-pipeline seqno 8 id v3HZcY
  metadata at 5632 length 1052 crc 5b080754 vg other seqno 11 id abcdef
  metadata at 7168 length 1342 crc 92efa1c0 vg vagrant-pipeline seqno 9 id v3HZcY
  metadata at 15360 length 1342 crc 2b080754 vg vagrant-pipeline seqno 90 id before
  metadata at 1047040 length 1342 crc 0b080754 vg vagrant-pipeline seqno 7 id v3HZcY
"""
LOST = "8704\n"
LOOK = [
    ACTIVATE,
    "pvck --dump metadata /dev/vda4",
    "pvck --dump metadata_search /dev/vda4",
]


def repairs(*offsets: int) -> list[str]:
    calls = []
    for number, offset in enumerate(offsets, 1):
        text = f"/run/resnap/text{number}"
        search = f"pvck --dump metadata_search --settings metadata_offset={offset}"
        calls.append(f"{search} --file {text} /dev/vda4")
        calls.append(f"pvck --yes --repair --file {text} /dev/vda4")
    return calls


@pytest.fixture
def torn(box: Initramfs) -> Initramfs:
    """A box whose power went while LVM wrote its metadata."""
    box.write("fake/appears_at", "999\n")
    box.write("fake/texts", FOUND)
    box.write("fake/lost", LOST)
    box.write("fake/unreadable", "")
    return box


def test_metadata_that_a_power_cut_left_half_written_is_mended(torn: Initramfs) -> None:
    assert torn.boot() == "fresh"
    assert torn.calls == [*LOOK, *repairs(7168), ACTIVATE, REMOVE, TAKE]
    assert "is mended" in torn.said + (torn.root / "run/resnap/log").read_text()


def test_of_metadata_the_newest_that_can_be_read_is_put_back(torn: Initramfs) -> None:
    torn.write("fake/unreadable", "7168 4608\n")
    assert torn.boot() == "fresh"
    assert torn.calls == [*LOOK, *repairs(7168, 4608, 1047040), ACTIVATE, REMOVE, TAKE]


def test_metadata_that_cannot_be_read_at_all_is_left_alone(torn: Initramfs) -> None:
    torn.write("fake/unreadable", "7168 4608 1047040\n")
    torn.write("fake/appears_at", "4\n")
    assert torn.boot() == "fresh"
    assert torn.calls == [*LOOK, *repairs(7168, 4608, 1047040), "sleep 1", REMOVE, TAKE]


def test_a_disk_whose_header_tells_of_no_lost_text_is_left_alone(torn: Initramfs) -> None:
    torn.write("fake/lost", "\n")
    torn.write("fake/appears_at", "4\n")
    assert torn.boot() == "fresh"
    assert torn.calls == [*LOOK[:2], "sleep 1", REMOVE, TAKE]


def test_a_group_that_lacks_a_disk_is_booted_as_far_as_it_goes(box: Initramfs) -> None:
    box.write("fake/appears_at", "999\n")
    box.write("fake/partial", "")
    box.run("premount")
    assert box.calls.count("sleep 1") == 5  # the deadline: the disk could have come
    assert box.calls[-1] == "vgchange --sysinit --activationmode partial -ay vagrant-pipeline"
    box.mount(box.mounted_by_the_kernel)
    box.run("verdict", "/root")
    assert box.verdict == "failed"
    assert box.notes["mounted"] == box.origin
    assert box.notes["reason"] == "a disk of vagrant-pipeline is missing"


def test_block_does_nothing_before_premount(box: Initramfs) -> None:
    assert box.run("block") == 0
    assert box.calls == []
    assert not (box.root / "run/resnap").exists()


def test_a_root_that_came_after_every_deadline_is_called_failed(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.write("fake/appears_at", "999\n")
    assert box.boot() == "failed"
    assert box.notes["reason"] == "vagrant-pipeline/root appeared after every deadline"


def test_a_verdict_without_premount_is_failed(box: Initramfs) -> None:
    box.has_snapshot(FRESH)
    box.mount(box.snapshot)
    box.write("run/resnap/notes", "")
    box.run("verdict", "/root")
    assert box.verdict == "failed"


def test_a_snapshot_is_kept_where_the_flag_is_missing(box: Initramfs) -> None:
    box.cmdline("quiet")
    box.has_snapshot(DIRTY)
    assert box.boot() == "kept"
    assert box.calls == []
    assert box.notes["mode"] == "keep"


@pytest.mark.parametrize("status", ["0 8 snapshot Invalid", "0 8 snapshot Overflow", None])
def test_a_snapshot_not_worth_keeping_is_taken_anew(box: Initramfs, status: str | None) -> None:
    box.cmdline("quiet")
    if status:
        box.has_snapshot(status)
    assert box.boot() == "fresh"
    assert box.calls == [REMOVE, TAKE]
    assert box.notes["reason"] == "there was no good snapshot to keep"
    assert box.notes.get("overflowed") == ("yes" if status else None)


def test_maintenance_touches_nothing(box: Initramfs) -> None:
    box.has_snapshot(DIRTY)
    box.has_safety()
    box.cmdline(root=f"/dev/mapper/{box.origin}")
    assert box.boot() == "golden"
    assert box.calls == []


@pytest.mark.parametrize("flag", ["resnap", "quiet"])
def test_a_safety_snapshot_is_merged_back_before_a_snapshot_is_booted(
    box: Initramfs, flag: str
) -> None:
    box.cmdline(flag)
    box.has_safety()
    assert box.boot() == "fresh"
    assert box.calls == [MERGE, *["sleep 1"] * 3, REMOVE, TAKE]
    assert float(box.notes["merge_finished"]) - float(box.notes["merge_started"]) == 3


def test_the_snapshot_of_a_trial_is_removed_before_the_merge(box: Initramfs) -> None:
    box.has_safety()
    box.has_snapshot(DIRTY)
    assert box.boot() == "fresh"
    assert box.calls[:2] == [REMOVE, MERGE]
    assert box.calls[-2:] == [REMOVE, TAKE]


@pytest.mark.parametrize("flag", ["resnap", "quiet"])
def test_in_a_trial_the_safety_snapshot_stays_and_has_the_room(box: Initramfs, flag: str) -> None:
    box.cmdline(flag, "trial")
    box.has_safety()
    assert box.boot() == "fresh"
    assert box.calls == [REMOVE, TAKE.replace("-l 100%ORIGIN", "-l 100%FREE")]
    assert box.notes["trial"] == "yes"
    assert (box.root / f"dev/mapper/{box.origin}_safety").exists()


def test_a_trial_that_was_kept_has_no_safety_snapshot_to_go_back_to(box: Initramfs) -> None:
    box.cmdline("resnap", "trial")
    assert box.boot() == "fresh"
    assert "trial" not in box.notes


def test_in_a_trial_a_merge_that_was_begun_goes_on(box: Initramfs) -> None:
    box.cmdline("resnap", "trial")
    box.is_merging()
    assert box.boot() == "fresh"
    assert box.calls[0] == "lvchange --poll y vagrant-pipeline/root"


@pytest.mark.parametrize("knobs", [(), ("held",)])
def test_what_is_no_safety_snapshot_yet_or_any_more_is_removed(
    box: Initramfs, knobs: tuple[str, ...]
) -> None:
    box.has_safety("0 4231168 linear 254:0 4196352")
    for knob in knobs:
        box.write(f"fake/{knob}", "")
    assert box.boot() == "fresh"
    remove = "lvremove --yes vagrant-pipeline/root_safety"
    assert box.calls == [remove, REMOVE, TAKE]
    assert (box.root / f"dev/mapper/{box.origin}_safety").exists() == bool(knobs)


def test_maintenance_leaves_it(box: Initramfs) -> None:
    box.has_safety("0 4231168 linear 254:0 4196352")
    box.cmdline(root=f"/dev/mapper/{box.origin}")
    assert box.boot() == "golden"
    assert box.calls == []


@pytest.mark.parametrize("golden", [False, True])
def test_a_merge_that_was_broken_off_goes_on_whatever_is_booted(
    box: Initramfs, golden: bool
) -> None:
    box.is_merging()
    box.cmdline("resnap", root=f"/dev/mapper/{box.origin}" if golden else None)
    assert box.boot() == ("golden" if golden else "fresh")
    poll = ["lvchange --poll y vagrant-pipeline/root", *["sleep 1"] * 3]
    assert box.calls == poll if golden else [*poll, REMOVE, TAKE]


def test_the_end_of_a_poll_in_the_background_is_waited_for(box: Initramfs) -> None:
    box.is_merging()
    box.has_safety()
    box.write("fake/lingers", "")
    assert box.boot() == "fresh"
    assert box.calls.count("sleep 1") == 4


def test_of_a_promoted_snapshot_the_safety_snapshot_is_no_sign_that_it_goes_on(
    box: Initramfs,
) -> None:
    box.cmdline("resnap", "trial")
    box.is_merging(box.snapshot)
    box.has_safety()
    box.write("fake/lingers", "")
    assert box.boot() == "fresh"
    assert box.calls.count("sleep 1") == 3
    assert (box.root / f"dev/mapper/{box.origin}_safety").exists()


def test_a_golden_root_that_could_not_go_back_is_never_called_fresh(box: Initramfs) -> None:
    box.has_safety()
    box.write("fake/merge_refuses", "")
    assert box.boot() == "failed"
    assert "could not go back" in box.notes["reason"]


@pytest.mark.parametrize("status", ["Merge failed", "Invalid"])
def test_a_merge_that_fails_is_not_waited_for(box: Initramfs, status: str) -> None:
    box.is_merging()
    box.write("fake/merge", "99999\n")
    box.write(f"fake/status/{box.origin}", f"0 8388608 snapshot-merge {status}\n")
    assert box.boot() == "failed"
    assert "could not go back" in box.notes["reason"]


# What dmsetup says of a snapshot that could not be removed. An allocation that is all tables is
# one that nothing was written to; every other line, known or not, is not fresh.
@pytest.mark.parametrize(
    ("status", "reset", "kept"),
    [
        (FRESH, "fresh", "kept"),
        ("0 8388608 snapshot 16/8388608 16", "fresh", "kept"),
        (DIRTY, "failed", "kept"),
        ("0 8388608 snapshot 272/8454144 256", "failed", "kept"),
        ("0 8388608 snapshot 256/8454144 2560", "failed", "kept"),
        ("0 8388608 snapshot 8454144/8454144 33024", "failed", "kept"),
        ("0 8388608 snapshot Invalid", "failed", "failed"),
        ("0 8388608 snapshot Overflow", "failed", "failed"),
        ("0 8388608 snapshot Merge failed", "failed", "failed"),
        ("0 8388608 snapshot Unknown", "failed", "failed"),
        ("0 8388608 snapshot ", "failed", "failed"),
        ("0 8388608 snapshot-merge 256/8454144 256", "failed", "failed"),
        ("0 8388608 snapshot-origin ", "failed", "failed"),
        ("0 8388608 linear ", "failed", "failed"),
        ("0 8388608 error ", "failed", "failed"),
        ("", "failed", "failed"),
    ],
)
def test_a_dirty_root_is_never_called_fresh(
    box: Initramfs, status: str, reset: str, kept: str
) -> None:
    box.has_snapshot(status)
    box.write("fake/busy", "ever\n")
    box.write("etc/default/resnap", "DEADLINE=1\n")
    assert box.boot() == reset
    shutil.rmtree(box.root / "run/resnap")
    box.cmdline("quiet")
    assert box.boot() == kept


@pytest.mark.parametrize("status", ["0 8 snapshot Invalid", "0 8 snapshot 9/9 8", ""])
def test_a_new_snapshot_is_fresh_only_by_the_kernels_word(box: Initramfs, status: str) -> None:
    box.write("fake/status.new", status)
    assert box.boot() == "failed"


@pytest.mark.parametrize("mounted", ["origin", "none"])
def test_another_root_than_the_one_meant_is_called_failed(box: Initramfs, mounted: str) -> None:
    assert box.run("premount") == 0
    assert box.outcome == "fresh"
    name = box.origin if mounted == "origin" else None
    box.mount(name)
    box.run("verdict", "/root")
    assert box.verdict == "failed"
    what = name or "no volume"
    assert box.notes["reason"] == f"{what} was mounted where a fresh root was meant"


def test_a_snapshot_mounted_as_the_golden_root_is_called_failed(box: Initramfs) -> None:
    box.cmdline(root=f"/dev/mapper/{box.origin}")
    assert box.boot(mounted=box.snapshot) == "failed"


def test_a_root_that_is_not_mounted_is_called_failed(box: Initramfs) -> None:
    box.run("premount")
    box.mount(box.snapshot)
    box.run("verdict", "/elsewhere")
    assert box.verdict == "failed"


@pytest.mark.parametrize(
    ("group", "lvroot", "lvsnap"),
    [
        ("a-b", "c-d-e", "f--g"),
        ("box", "root-", "root-snap"),
        ("v.g+1", "r.o+o", "s_n.a+p"),
        ("_-_", "_", "_-"),
    ],
)
def test_odd_names_reach_the_right_devices(
    make: Make, group: str, lvroot: str, lvsnap: str
) -> None:
    box = make(group=group, lvroot=lvroot, lvsnap=lvsnap)
    box.has_snapshot(DIRTY)
    assert box.boot() == "fresh"
    assert box.calls[0] == f"lvremove --force {group}/{lvsnap}"
    assert box.calls[1].endswith(f" -l 100%ORIGIN {group}/{lvroot}")
    assert f"--name {lvsnap} " in box.calls[1]


@pytest.mark.parametrize(
    ("lvsize", "option"),
    [("100%ORIGIN", "-l 100%ORIGIN"), ("50%FREE", "-l 50%FREE"), ("4G", "-L 4G")],
)
def test_the_size_is_a_share_or_bytes(make: Make, lvsize: str, option: str) -> None:
    box = make(lvsize=lvsize)
    assert box.boot() == "fresh"
    assert f" {option} " in box.calls[-1]


def test_no_size_is_one_that_cannot_fill(make: Make) -> None:
    box = make(lvsize="")
    assert box.boot() == "fresh"
    assert " -l 100%ORIGIN " in box.calls[-1]


def test_the_settings_of_the_box_reach_lvm(box: Initramfs) -> None:
    box.write("etc/default/resnap", "CHUNKSIZE=16K\n")
    box.boot()
    assert " --chunksize 16K " in box.calls[-1]


def test_odd_words_of_the_kernel_are_let_pass(box: Initramfs) -> None:
    box.write("star", "")
    box.cmdline("*", "/*", "noresnap", "resnap=0", "xresnap", "-e", "a=b=c", "?", "$(x)", "`y`")
    box.has_snapshot(DIRTY)
    assert box.boot() == "kept"  # none of them is the flag


def test_a_kernel_that_was_not_told_of_volumes_changes_nothing(box: Initramfs) -> None:
    box.write("proc/cmdline", "root=/dev/sda1 ro resnap lvroot=root lvsnap=root_snap\n")
    for step in (["premount"], ["block"], ["verdict", "/root"]):
        assert box.run(*step) == 0
    assert not (box.root / "run/resnap").exists()
    assert box.calls == []


def test_the_verdict_goes_to_the_kernels_log(box: Initramfs) -> None:
    (box.root / "dev/kmsg").rmdir()
    box.boot()
    assert (box.root / "dev/kmsg").read_text() == "<3>resnap: verdict: fresh\n"
    assert box.said == ""


def test_another_word_is_refused(box: Initramfs) -> None:
    assert box.run("frobnicate") == 2
    assert not (box.root / "run/resnap").exists()


def has_disks(made: Initramfs, *uuids: str, kind: str = "LVM2_member") -> None:
    """The golden root lies on the first of these disks; what udev has read of all."""
    made.write("sys/block/dm-0/dm/name", f"{made.origin}\n")
    made.write("sys/block/dm-0/slaves/vda3/dev", "254:0\n")
    for number, uuid in enumerate(uuids):
        text = f"S:disk/by-uuid/x\nE:ID_FS_UUID={uuid}\nE:ID_FS_TYPE={kind}\nG:systemd\n"
        made.write(f"run/udev/data/b254:{number}", text)


def test_beside_a_clone_of_its_disk_nothing_is_reset(make: Make) -> None:
    """LVM takes one of the two, another one at each boot."""
    made = make()
    made.has_snapshot(DIRTY)
    has_disks(made, "aaaa-1", "bbbb-2", "aaaa-1")
    assert made.boot() == "failed"
    assert made.notes["reason"] == (
        "two disks have the same physical volume of vagrant-pipeline: detach the copy"
    )
    assert made.calls == []
    assert made.mounted_by_the_kernel == made.snapshot


@pytest.mark.parametrize(
    ("uuids", "kind"),
    [
        (("aaaa-1", "bbbb-2", "bbbb-2"), "LVM2_member"),  # of another group
        (("aaaa-1", "aaaa-1"), "mpath_member"),  # two paths to one disk
        (("aaaa-1",), "LVM2_member"),
    ],
)
def test_other_disks_are_no_clones_of_its_own(
    make: Make, uuids: tuple[str, ...], kind: str
) -> None:
    made = make()
    made.has_snapshot(DIRTY)
    has_disks(made, *uuids, kind=kind)
    assert made.boot() == "fresh"
