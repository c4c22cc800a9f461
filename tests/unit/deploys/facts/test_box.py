"""What a host says of itself, read from output as hosts give it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.facts import host_state
from deploys.facts.state import HostState, State, Verdict
from deploys.facts.status import faults, filling, mode
from deploys.operations.boot import UnmarkedSnapshot
from tests.unit.onbox.fakeroot import FakeRoot

DIGEST = "5f" * 32
BASE = """@os
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
ID=debian
HOME_URL="https://example.org/?a=b"
@boot_id
6f1c2f0e-7d0b-4f7e-9a43-3b0f8a4b5a11
@firmware
uefi
secure
@kernel
6.12.9-amd64
@uptime
1234.56 2000.00
@modules
/lib/modules/6.12.9-amd64
"""
REST = f"""@sources
{DIGEST}
@release
COMMIT=0123abcd-dirty
MANIFEST=deadbeef
@provisiond
state=done
version=abc
@filesystems
Mounted on           Used      Avail
/              1523425280 2400000000
/persistent      10485760 2000000000
@versions
lammps=20240829+dfsg-1
libkim-api2=2.3.0+dfsg-3
"""
DEFAULTS = """@defaults
# Written by provision; makeinitrd turns it into boots.
VOLGROUP=vagrant-pipeline
LVROOT=root
LVSNAP=root_snap
WARN_PERCENT=80
RESET_PERCENT=95
LVSIZE=100%ORIGIN
CHUNKSIZE=64K
OLD_ROOT_UUID=
"""
TIMES = "mode=resnap\nstarted=2.50\ndisk=4.25\nfinished=6.75\n"
SNAPSHOT = "@snapshot\nvagrant--pipeline-root_snap: 0 8388608 snapshot 84544/845440 256\n"


def read(text: str) -> HostState:
    return State().process(text.splitlines())


def box(verdict: str, snapshot: str = SNAPSHOT) -> HostState:
    return read(f"{BASE}{DEFAULTS}@verdict\n{verdict}{snapshot}{REST}")


@pytest.mark.parametrize(
    ("made", "given", "role"),
    [
        ("", "", ""),
        ("devel", "", "devel"),
        ("gateway", "", "gateway"),
        ("devel", "worker", "worker"),
        ("devel", "devel", "devel"),
        ("worker", "", "devel"),  # a label of an older version: nothing made it one
        ("director", "worker", "worker"),
        ("devel", "$(id) x", "devel"),
    ],
)
def test_a_box_says_a_role_only_when_it_is_one(made: str, given: str, role: str) -> None:
    release = f"@release\nROLE={made}\n" if made else ""
    secured = f"@secured\n{given}\n" if given else ""
    assert read(f"{BASE}{DEFAULTS}{release}{secured}").role == role


def test_a_fresh_box() -> None:
    state = box(f"verdict=fresh\n{TIMES}mounted=x\ninitrd={DIGEST}\nverdict_at=7.5\n")
    assert state.verdict == Verdict("fresh", 2.5, 4.25, 6.75, "", DIGEST)
    assert state.verdict.reset_seconds == 2.5
    assert (state.is_box, state.in_snapshot, state.initrd_matches) == (True, True, True)
    assert (state.os_id, state.os_version) == ("debian", "13")
    assert (state.firmware, state.secure_boot) == ("uefi", True)
    assert (state.kernel, state.uptime, state.has_modules) == ("6.12.9-amd64", 1234.56, True)
    assert state.boot_id.startswith("6f1c2f0e")
    assert state.snapshot_percent == 10.0
    assert state.sources == DIGEST
    assert state.release == {"COMMIT": "0123abcd-dirty", "MANIFEST": "deadbeef"}
    assert state.provisiond == {"state": "done", "version": "abc"}
    assert state.free == {"/": 2400000000, "/persistent": 2000000000}
    assert state.versions == {"lammps": "20240829+dfsg-1", "libkim-api2": "2.3.0+dfsg-3"}
    assert state.defaults["LVSIZE"] == "100%ORIGIN"


def test_a_bare_host() -> None:
    parts = ("defaults", "verdict", "snapshot", "sources", "release", "provisiond", "versions")
    state = read(BASE + "".join(f"@{part}\n" for part in parts))
    assert (state.is_box, state.verdict, state.in_snapshot) == (False, None, False)
    assert (state.snapshot_percent, state.initrd_matches) == (None, False)
    assert (state.release, state.versions, state.free) == ({}, {}, {})
    assert state.os_id == "debian"


def test_a_bare_host_whose_own_snapshot_is_none_of_ours() -> None:
    state = read(BASE + "@snapshot\nvg-snap: 0 8 snapshot 4/8 2\n")
    assert state.snapshot_percent is None


def test_a_host_that_says_nothing_at_all() -> None:
    assert replace(read(""), read_at=None) == HostState()
    assert State.default() == HostState()


def test_a_reset_that_failed_has_its_reason() -> None:
    reason = 'Volume group "vagrant-pipeline" has insufficient free space (0 extents): 1 = needed'
    state = box(f"verdict=failed\n{TIMES}reason={reason}\ninitrd={DIGEST}\n", "@snapshot\n")
    assert state.verdict is not None
    assert (state.verdict.name, state.verdict.reason) == ("failed", reason)
    assert (state.in_snapshot, state.snapshot_percent) == (False, None)


def test_of_two_reasons_the_last_counts() -> None:
    state = box("verdict=failed\nreason=first\nreason=second\n")
    assert state.verdict is not None
    assert state.verdict.reason == "second"


def test_a_verdict_of_a_disk_that_never_came_has_no_times() -> None:
    state = box("verdict=failed\nmode=resnap\nstarted=2.50\n")
    assert state.verdict is not None
    assert (state.verdict.disk, state.verdict.reset_seconds) == (None, None)


@pytest.mark.parametrize("word", ["Overflow", "Invalid", "Merge failed"])
def test_a_full_snapshot_has_no_percentage(word: str) -> None:
    line = f"@snapshot\nvagrant--pipeline-root_snap: 0 8388608 snapshot {word}\n"
    assert box("verdict=kept\n", line).snapshot_percent is None


def test_another_snapshot_is_not_taken_for_the_boxs() -> None:
    lines = "@snapshot\nvagrant--pipeline-root_snap2: 0 8 snapshot 4/8 2\nx-y: 0 8 snapshot 1/8 2\n"
    assert box("verdict=fresh\n", lines).snapshot_percent is None


@pytest.mark.parametrize(
    ("name", "inside"), [("fresh", True), ("kept", True), ("golden", False), ("failed", False)]
)
def test_in_a_snapshot(name: str, inside: bool) -> None:
    assert box(f"verdict={name}\n").in_snapshot is inside


def test_an_unknown_verdict_is_none() -> None:
    assert box("verdict=splendid\n").verdict is None


@pytest.mark.parametrize(
    "state",
    [
        HostState(has_modules=True, sources="a"),
        HostState(has_modules=True, sources="a", verdict=Verdict("fresh", initrd="b")),
        HostState(has_modules=False, sources="a", verdict=Verdict("fresh", initrd="a")),
        HostState(has_modules=True, sources="", verdict=Verdict("fresh", initrd="")),
    ],
)
def test_kernel_and_initrd_do_not_match(state: HostState) -> None:
    assert not state.initrd_matches


MOUNTS = """@mounts
22 1 254:3 / / rw,relatime shared:1 - ext4 /dev/mapper/x-root_snap rw,errors=remount-ro
40 22 254:2 / /persistent ro,relatime shared:9 - ext4 /dev/mapper/x-persistent rw
41 22 0:5 / /proc rw - proc proc ro
"""
SUPERBLOCK = """@boot
Filesystem volume name:   resnap-boot
Reserved block count:     1000
Block count:              100000
Free blocks:              {free}
Block size:               4096
"""


def test_filesystems_as_the_kernel_and_their_superblocks_have_them() -> None:
    state = box(f"verdict=fresh\n{MOUNTS}{SUPERBLOCK.format(free=41000)}")
    assert state.mounts == {
        "/": frozenset(("rw", "errors=remount-ro")),
        "/persistent": frozenset(("rw",)),
    }
    assert (state.free["/boot"], state.used["/boot"]) == (40000 * 4096, 59000 * 4096)
    assert faults(replace(state, clock=100, read_at=100.0)) == []
    mounted = "@boot\nMounted on   Used  Avail\n/boot  500  0\n"
    assert box(f"verdict=golden\n{mounted}").free["/boot"] == 0


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (MOUNTS.replace("/persistent", "/srv"), ["/persistent is not mounted"]),
        (MOUNTS.replace("-persistent rw", "-persistent ro"), ["/persistent is read-only"]),
        (MOUNTS.replace(" rw,errors", " ro,errors"), ["/ is read-only"]),
        (SUPERBLOCK.format(free=2900), ["/boot is full: 8 MB are free"]),
        (SUPERBLOCK.format(free=900), ["/boot is full: 0 MB are free"]),
        ("@boot\nMounted on Used Avail\n/boot 97000000 3000000\n", []),
        ("@clock\n1400\n", []),
        ("@clock\n4600\n", ["the clock is 1.0 h ahead of the desk's"]),
        ("@clock\n-6200\n", ["the clock is 2.0 h behind the desk's"]),
    ],
)
def test_what_is_wrong_with_a_box_that_runs(lines: str, expected: list[str]) -> None:
    state = box(f"verdict=fresh\n{lines}@clock\n1000\n")
    assert faults(replace(state, read_at=1000.0)) == expected


def test_a_host_that_is_no_box_has_no_faults() -> None:
    assert faults(read(f"{BASE}{MOUNTS.replace('/persistent', '/srv')}")) == []


def test_a_snapshot_that_fills_up_is_a_fault() -> None:
    snapshot = "@snapshot\nvagrant--pipeline-root_snap: 0 8388608 snapshot {}/1000 256\n"
    assert filling(box("verdict=fresh\n", snapshot.format(799))) == []
    assert filling(box("verdict=fresh\n", snapshot.format(800))) == ["the snapshot is 80.0 % full"]
    small = DEFAULTS.replace("100%ORIGIN", "4G") + "WARN_PERCENT=60\nRESET_PERCENT=70\n"
    state = read(f"{BASE}{small}@verdict\nverdict=fresh\n{snapshot.format(650)}{REST}")
    assert filling(state) == ["the snapshot is 65.0 % full: at 70 % the box resets"]


def test_resets_for_want_of_room_are_told_for_a_day() -> None:
    state = box("verdict=fresh\n@overfull\n1000\n2000\nx\n90000\n@clock\n87500\n")
    assert state.overfull == (1000, 2000, 90000)
    assert filling(replace(state, clock=87500)) == [
        "the snapshot filled up and was reset, within a day: 1"
    ]
    assert filling(replace(state, clock=500000)) == []


def test_a_change_that_was_rolled_back_is_told() -> None:
    state = box("verdict=fresh\n@rolled_back\n86400 SSH does not answer\n")
    assert state.rolled_back == (86400, "SSH does not answer")
    line = "the last change was rolled back, at 1970-01-02 00:00 UTC: SSH does not answer"
    assert line in faults(state)
    assert box("verdict=fresh\n@rolled_back\nx\n").rolled_back is None


@pytest.mark.parametrize(("verdict", "told"), [("fresh", True), ("kept", True), ("golden", False)])
def test_a_golden_root_that_no_provision_finished_is_told(verdict: str, told: bool) -> None:
    state = box(f"verdict={verdict}\n")
    line = "the golden root is unfinished, its provision broke off: provision it again"
    assert line not in faults(state)
    assert (line in faults(replace(state, release={}))) == told


def test_a_trial_is_no_snapshot_to_rely_on() -> None:
    assert mode(box("verdict=fresh\n@trial\nyes\n")) == "trial"
    assert mode(box("verdict=golden\n@trial\nyes\n")) == "maintenance"
    assert mode(box("verdict=fresh\n")) == "snapshot"


@pytest.mark.commands
@pytest.mark.parametrize(
    ("cmdline", "tried", "in_trial"),
    [
        ("ro resnap trial panic=10", False, True),
        ("ro resnap safety", False, True),
        ("ro resnap trial panic=10", True, False),
        ("ro resnap root=/dev/mapper/trial--vg-root", False, False),
        ("ro resnap", False, False),
    ],
)
def test_the_kernel_was_told_of_a_trial(
    tmp_path: Path, cmdline: str, tried: bool, in_trial: bool
) -> None:
    for name in ("proc", "run/resnap"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/cmdline").write_text(f"{cmdline}\n")
    if tried:
        (tmp_path / "run/resnap/tried").touch()
    command = host_state.command(str(tmp_path))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert read(done.stdout).in_trial is in_trial


@pytest.mark.commands
@pytest.mark.parametrize(
    ("files", "unmarked"),
    [
        (["fresh"], "fresh"),
        (["kept"], "kept"),
        (["kept", "in-snapshot"], ""),
        (["golden"], ""),
        (["failed"], ""),
        ([], ""),
    ],
)
def test_the_mark_of_a_snapshot_is_missed(tmp_path: Path, files: list[str], unmarked: str) -> None:
    """An initrd of an earlier version leaves the verdict alone."""
    for name in files:
        (tmp_path / name).touch()
    fact = UnmarkedSnapshot()
    command = fact.command().replace("/run/resnap", str(tmp_path))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert fact.process(done.stdout.splitlines()) == unmarked


def test_what_fills_up_is_among_the_faults() -> None:
    state = box("verdict=fresh\n@overfull\n1000\n@clock\n2000\n")
    assert faults(replace(state, read_at=None)) == filling(state) != []


@pytest.mark.commands
def test_a_boot_that_is_a_folder_has_the_room_of_its_filesystem(tmp_path: Path) -> None:
    """Of a box in a file; in a snapshot it is not mounted."""
    root = FakeRoot(tmp_path)
    root.tool("findmnt", f"echo {tmp_path}/pipeline/boot")
    (tmp_path / "pipeline/boot").mkdir(parents=True)
    done = subprocess.run(
        ["sh", "-c", host_state.command(str(tmp_path))],
        env={**os.environ, **root.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    usage = shutil.disk_usage(tmp_path)
    assert abs(read(done.stdout).free["/boot"] - usage.free) < usage.total // 100


@pytest.mark.commands
@pytest.mark.parametrize(
    ("programs", "initrds"),
    [
        (["usr/sbin/update-initramfs"], "initramfs-tools"),
        (["usr/sbin/update-initramfs", "usr/bin/dracut"], "initramfs-tools"),
        (["usr/bin/dracut"], "dracut"),
        ([], ""),
    ],
)
def test_what_makes_the_initrds(tmp_path: Path, programs: list[str], initrds: str) -> None:
    for program in programs:
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).touch(mode=0o755)
    command = host_state.command(str(tmp_path))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert read(done.stdout).initrds == initrds


@pytest.mark.commands
@pytest.mark.parametrize("form", ["fifo", "link"])
def test_a_fifo_in_persistent_is_not_waited_for(tmp_path: Path, form: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("9 of this host\n")
    for name in ("log/rolled-back", "log/overfull", "settings/runsecure"):
        path = tmp_path / "persistent" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(secret)
    command = ["sh", "-c", host_state.command(str(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    state = read(done.stdout)
    assert (state.rolled_back, state.overfull, state.secured) == (None, (), "")
    assert "of this host" not in done.stdout


@pytest.mark.commands
def test_the_command_runs_in_any_shell() -> None:
    """On this machine, box or not: every part is announced, and its fault is no fault of all."""
    done = subprocess.run(
        ["sh", "-c", State().command()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    state = read(done.stdout)
    assert state.uptime > 0
    assert state.boot_id
