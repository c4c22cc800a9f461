"""The machine ID of a box: the first boot's, kept in GRUB's environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploys.operations.onbox import ONBOX
from tests.unit.onbox.fakeroot import FakeRoot

SCRIPT = ONBOX / "usr/lib/machine-id/keep-machine-id"
FIRST, SECOND = "0123456789abcdef" * 2, "f" * 32

pytestmark = pytest.mark.commands


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "boot/grub").mkdir(parents=True)
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/resnap").symlink_to(ONBOX / "usr/lib/resnap")
    subprocess.run(["grub-editenv", tmp_path / "boot/grub/grubenv", "create"], check=True)
    return tmp_path


def boot(root: Path, machine_id: str, tools: dict[str, str] | None = None) -> int:
    """Run it on a fake box with that ID and ``/boot`` mounted; its exit code."""
    box = FakeRoot(root)
    box.write("etc/machine-id", f"{machine_id}\n")
    for name, script in {"mountpoint": "exit 0", **(tools or {})}.items():
        box.tool(name, script)
    return box.run(SCRIPT).returncode


def kept(root: Path) -> list[str]:
    argv: list[str | Path] = ["grub-editenv", root / "boot/grub/grubenv", "list"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_first_one_is_a_word_for_the_kernel(root: Path) -> None:
    assert boot(root, FIRST) == 0
    assert kept(root) == [f"machine_id=systemd.machine_id={FIRST}"]
    assert boot(root, SECOND) == 0
    assert kept(root) == [f"machine_id=systemd.machine_id={FIRST}"]
    assert [each.name for each in (root / "boot/grub").iterdir()] == ["grubenv"]


def test_what_else_grub_remembers_stays(root: Path) -> None:
    file = root / "boot/grub/grubenv"
    subprocess.run(["grub-editenv", file, "set", "next_entry=maintenance"], check=True)
    boot(root, FIRST)
    assert kept(root) == ["next_entry=maintenance", f"machine_id=systemd.machine_id={FIRST}"]


def test_a_power_cut_leaves_the_old_environment(root: Path) -> None:
    before = (root / "boot/grub/grubenv").read_bytes()
    assert boot(root, FIRST, {"mv": "exit 1"}) != 0
    assert (root / "boot/grub/grubenv").read_bytes() == before
    (root / "tools/mv").unlink()
    assert boot(root, FIRST) == 0
    assert kept(root) == [f"machine_id=systemd.machine_id={FIRST}"]
