"""The versions of a golden root, by the script that a box runs, over a stand-in for LVM.

A volume is a file in ``vg``: its size in MiB and, of a version, a line "golden".
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/resnap/versions"
# name, then what lvs, lvremove and so on do with the files of vg
LVS = """case "$*" in
*lv_tags=golden*) ! grep -q golden vg/* || ls -t $(grep -l golden vg/*) | sed 's,^vg/,  ,' ;;
*lv_size*) for last; do :; done; [ -e "vg/${last#*/}" ] && sed -n '1s/$/.00/p' "vg/${last#*/}" ;;
*) [ -e "vg/${1#*/}" ] ;;
esac"""
TOOLS = {
    "lvs": LVS,
    "vgs": "cat free",
    "lvremove": 'for last; do :; done; rm "vg/${last#*/}"',
    "lvrename": 'shift 2; mv "vg/$1" "vg/$2"',
    "lvchange": 'case $2 in\n--addtag) echo golden >>"vg/${4#*/}" ;;\n'
    '*) sed -i /golden/d "vg/${4#*/}" ;;\nesac',
    "lvreduce": 'shift 2; echo "${5%M}" >"vg/${6#*/}"',
    "lvcreate": 'echo "$*" >created; echo 100 >"vg/$9"',
    "lvconvert": "",
    "dmsetup": 'name=${2#a-}; [ ! -e "used/$name" ] || echo "0 999 snapshot $(cat "used/$name")"',
    "df": "echo Avail; cat boot-free",
    "find": "echo 60; echo 40",
    "mountpoint": "exit 0",
}

pytestmark = pytest.mark.commands


class Box(FakeRoot):
    """A box that was changed, and is good: its safety snapshot has 300 MiB of what it was."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.write(
            "etc/default/resnap", "VOLGROUP=a\nLVROOT=root\nLVSNAP=snap\nLVSIZE=100%ORIGIN\n"
        )
        self.volume("root", 4096)
        self.volume("snap", 700)
        self.volume("root_safety", 4120)
        self.write("used/root_safety", f"{300 * 2048}/8437760 16")
        self.kept("boot/grub/safety", "feedfeedfeedfeed")
        self.write("free", "  5000.00\n")
        self.write("boot-free", "500\n")
        for name, body in TOOLS.items():
            logged = (
                f'echo "{name} $*" >>calls\n' if name.startswith("lv") and name != "lvs" else ""
            )
            self.tool(name, f"cd {root}\n{logged}{body}")
        for name in ("edit-grubenv", "flush-boot", "trial"):
            self.program(f"usr/lib/resnap/{name}", f'echo "{name} $*" >>{root}/calls')

    def volume(self, name: str, size: int, *, age: int = 0, golden: bool = False) -> None:
        file = self.write(f"vg/{name}", f"{size}\n{'golden' if golden else ''}")
        os.utime(file, (10**9 - age, 10**9 - age))

    def kept(self, folder: str, manifest: str) -> None:
        self.write(f"{folder}/release", f"MANIFEST={manifest}\nCOMMIT=c0ffee\n")
        self.write(f"{folder}/menu.cfg", "")

    def version(self, manifest: str, age: int) -> None:
        self.volume(f"root_{manifest}", 364, age=age, golden=True)
        self.kept(f"boot/grub/golden/root_{manifest}", manifest)
        self.write(f"used/root_{manifest}", "99/745472 16")

    def golden(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(SCRIPT, *words)

    def does(self, *words: str) -> str:
        done = self.golden(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, *words: str) -> str:
        before = self.everything
        done = self.golden(*words)
        assert done.returncode == 1
        assert self.everything == before
        return done.stderr

    @property
    def everything(self) -> dict[str, str]:
        folders = (self.root / "vg", self.root / "boot")
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        return {str(file): file.read_text() for file in files}

    @property
    def volumes(self) -> list[str]:
        return sorted(file.name for file in (self.root / "vg").iterdir())

    @property
    def versions(self) -> list[str]:
        """The versions that have both, volume and files of /boot, the newest first."""
        return [line.split()[0] for line in self.does("list").splitlines()]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_the_safety_snapshot_becomes_a_version_and_takes_no_more_than_it_must(box: Box) -> None:
    box.does("keep")
    assert box.volumes == ["root", "root_feedfeedfeed", "snap"]
    assert (box.root / "vg/root_feedfeedfeed").read_text() == "365\ngolden\n"
    [line] = box.does("list").splitlines()
    name, when, manifest, commit = line.split()
    assert (name, manifest, commit) == ("root_feedfeedfeed", "feedfeedfeedfeed", "c0ffee")
    assert int(when) > 10**9
    assert not (box.root / "boot/grub/safety").exists()
    assert box.calls[-1] == "flush-boot "


def test_of_two_versions_of_one_manifest_the_newer_is_kept(box: Box) -> None:
    box.version("feedfeedfeed", 9)
    box.does("keep")
    assert box.calls[0] == "lvremove --yes --quiet a/root_feedfeedfeed"
    assert box.versions == ["root_feedfeedfeed"]


def test_a_safety_snapshot_that_overflowed_is_no_version(box: Box) -> None:
    box.write("used/root_safety", "Invalid")
    assert box.refuses("keep") == "versions: the safety snapshot is not whole\n"


def test_three_versions_are_kept(box: Box) -> None:
    for age, manifest in enumerate(("a", "b", "c", "d", "e")):
        box.version(manifest, age)
    box.does("make-room", "all")
    assert box.versions == ["root_a", "root_b", "root_c"]
    assert "root_d" not in str(box.everything)


@pytest.mark.parametrize(("free", "kept"), [(3672, True), (3671, False)])
def test_the_next_reset_and_the_next_change_have_room(box: Box, free: int, kept: bool) -> None:
    """The origin has 4096 MiB, its snapshot 700 of the 4116 it is to have; a trial's needs 256."""
    box.version("a", 0)
    box.write("free", f"  {free}.00\n")
    box.does("make-room", "all")
    assert (box.versions == ["root_a"]) is kept


def test_room_that_a_version_gives_back_is_enough(box: Box) -> None:
    for age, manifest in enumerate("abc"):
        box.version(manifest, age)
    box.write("free", "  3400.00\n")
    box.tool(
        "lvremove",
        f'cd {box.root}; for last; do :; done; rm "vg/${{last#*/}}"; echo "  3764.00" >free',
    )
    box.does("make-room", "all")
    assert box.versions == ["root_a", "root_b"]


def test_the_initrds_to_be_made_have_room_in_boot(box: Box) -> None:
    box.version("a", 0)
    box.write("boot-free", "99\n")
    box.write("free", "  1.00\n")
    box.does("make-room", "boot")
    assert box.versions == []
    box.version("a", 0)
    box.write("boot-free", "100\n")
    box.does("make-room", "boot")
    assert box.versions == ["root_a"]


@pytest.mark.parametrize("state", ["Invalid", "Overflow"])
def test_a_version_that_overflowed_goes(box: Box, state: str) -> None:
    box.version("a", 0)
    box.version("b", 1)
    box.write("used/root_a", state)
    box.does("make-room", "all")
    assert box.versions == ["root_b"]


@pytest.mark.parametrize(("state", "kept"), [("Invalid", False), ("9/745472 16", True)])
def test_the_root_from_before_the_box_goes_if_it_overflowed(
    box: Box, state: str, kept: bool
) -> None:
    box.volume("root_before", 1000)
    box.write("boot/grub/before/menu.cfg")
    box.write("used/root_before", state)
    box.does("make-room", "all")
    assert ("root_before" in box.volumes) is kept
    assert (box.root / "boot/grub/before").exists() is kept


def test_what_a_power_cut_left_of_a_version_goes(box: Box) -> None:
    box.volume("root_x", 300, golden=True)
    box.kept("boot/grub/golden/root_y", "y")
    box.does("make-room", "all")
    assert "root_x" not in box.volumes
    assert not (box.root / "boot/grub/golden/root_y").exists()


def test_a_version_is_gone_back_to_when_its_volume_is_the_safety_snapshot(box: Box) -> None:
    box.does("keep")
    box.version("b", 1)
    before = len(box.calls)
    box.does("back", "root_feedfeedfeed")
    assert box.calls[before:] == [
        "edit-grubenv set trial_boots=0",
        "lvrename --quiet a root_feedfeedfeed root_safety",
        "lvchange --quiet --deltag golden a/root_safety",
    ]
    assert (box.root / "boot/grub/safety/version").read_text() == "root_feedfeedfeed\n"
    assert (box.root / "persistent/log/trial").read_text() == ""
    assert box.versions == ["root_b"]


def test_a_version_that_is_not_there_is_refused(box: Box) -> None:
    assert box.refuses("back", "root_cafe") == "versions: there is no version root_cafe\n"


def test_while_a_change_is_tried_nothing_else_goes_back(box: Box) -> None:
    box.version("a", 0)
    assert "a change is being tried" in box.refuses("back", "root_a")
    assert "a change is being tried" in box.refuses("promote")


def test_a_snapshot_is_promoted_with_a_way_back(box: Box) -> None:
    (box.root / "vg/root_safety").unlink()
    box.write("used/snap", f"{200 * 2048}/8437760 16")
    box.write("free", "  265.00\n")
    box.does("promote")
    assert box.calls == [
        "lvcreate --yes --quiet --snapshot --chunksize 64K --extents 100%FREE "
        "--name root_safety a/root",
        "trial save",
        "lvconvert --yes --quiet --merge a/snap",
        "trial begin",
    ]


def test_without_room_for_a_way_back_nothing_is_promoted(box: Box) -> None:
    (box.root / "vg/root_safety").unlink()
    box.write("used/snap", f"{200 * 2048}/8437760 16")
    box.write("free", "  264.00\n")
    assert box.refuses("promote") == (
        "versions: the changes take 201 MiB: to be able to go back, "
        "a needs 265 MiB free, and has 264 MiB\n"
    )


def test_a_base_box_forgets_them_all(box: Box) -> None:
    box.version("a", 0)
    box.version("b", 1)
    box.does("forget-all")
    assert box.versions == []


@pytest.mark.parametrize(
    "words", [[], ["back"], ["list", "all"], ["make-room"], ["make-room", "it"], ["sell"]]
)
def test_other_words_are_refused(box: Box, words: list[str]) -> None:
    done = box.golden(*words)
    assert (done.returncode, box.calls) == (2, [])
    assert done.stderr.startswith("usage: versions ")
