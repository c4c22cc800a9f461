"""The hooks of dracut's module, sourced as dracut sources them, in a root like an initramfs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.onbox.initramfs import RESNAP, Initramfs, skeleton

pytestmark = pytest.mark.commands

MODULE = RESNAP.parents[1] / "dracut/modules.d/90resnap"
# As much of dracut's library as a hook uses: the value of a kernel's argument, or exit code 1.
_LIBRARY = """
getarg() {
    read -r line </proc/cmdline
    for word in $line; do
        case $word in "$1"*) echo "${word#*=}"; return 0 ;; esac
    done
    return 1
}
NEWROOT=/root
"""


@pytest.fixture
def box(tmp_path: Path) -> Initramfs:
    root = tmp_path / "root"
    skeleton(root, Path("/bin/sh").resolve())
    for name in ("reset.sh", "finished.sh", "verdict.sh", "panic.sh", "pause.sh"):
        shutil.copy(MODULE / name, root / name)
    (root / "library").write_text(_LIBRARY)
    return Initramfs(root)


def hook(box: Initramfs, name: str) -> bool:
    """Whether a hook succeeded."""
    return box.within("/bin/sh", "-c", f". /library; . /{name}.sh").returncode == 0


def test_the_root_is_not_there_before_the_reset_is_over(box: Initramfs) -> None:
    box.has_snapshot("0 8388608 snapshot 9216/8454144 256")
    assert not hook(box, "finished")
    assert hook(box, "reset")
    assert box.outcome == "fresh"
    assert hook(box, "finished")
    box.mount(box.snapshot)
    assert hook(box, "verdict")
    assert box.verdict == "fresh"


def test_a_disk_later_than_the_deadline_is_tried_at_each_turn(box: Initramfs) -> None:
    box.write("fake/appears_at", "1000\n")
    assert hook(box, "reset")
    assert not hook(box, "finished")
    assert hook(box, "reset")
    assert not hook(box, "finished")
    box.write("fake/lvm_activates", "")
    assert hook(box, "reset")
    assert hook(box, "finished")
    assert box.outcome == "fresh"


def test_a_boot_that_is_none_of_ours_is_not_held_up(box: Initramfs) -> None:
    box.write("proc/cmdline", "root=/dev/vda1 ro quiet\n")
    assert hook(box, "finished")
    assert hook(box, "reset")
    assert box.outcome is None


@pytest.mark.parametrize("words", [(), ("panic=10",)])
def test_a_closed_console_gets_no_shell_and_a_reboot_after_a_while(
    box: Initramfs, words: tuple[str, ...]
) -> None:
    box.cmdline("resnap", *words)
    assert hook(box, "panic")
    told = box.root / "etc/cmdline.d/90-resnap.conf"
    assert told.exists() == bool(words)
    if words:
        assert told.read_text() == "rd.shell=0 rd.emergency=reboot\n"
        assert hook(box, "pause")
        assert box.calls == ["sleep 10"]
