"""The disk of a box: what the real tools find on it, and that it is the same bytes twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploys.errors import BoxError
from deploys.operations.root import COPIED
from deploys.plan.of_image import DiskPlan, plan_disk
from deploys.plan.result import Volume
from deploys.settings import MIB
from tasks.desk import loop
from tasks.desk.flags import load
from tasks.disks import box_disk, filesystems, partitions, volume_group
from tasks.disks.identifiers import Fixed, Identifiers
from tests.storage.commands import run
from tests.storage.faults import given_back, held

NAMES = Identifiers("a test")
FIXED = Fixed(NAMES, 1_790_000_000)


@pytest.fixture
def plan(loop_disk: str) -> DiskPlan:
    """A small box's plan; where there are no loop devices, this skips."""
    assert loop_disk
    return replace(
        plan_disk(load(None, ["volumes.boot_size=256M"])),
        size=800 * MIB,
        root=Volume("root", 200 * MIB),
        own=(Volume("persistent", 100 * MIB), Volume("swap", 64 * MIB)),
    )


def make(folder: Path, plan: DiskPlan) -> Path:
    """A disk with all that needs no files of a root."""
    folder.mkdir()
    disk, loader = folder / "disk.raw", folder / "loader"
    loader.write_bytes(b"a loader" * 1000)
    with disk.open("wb") as file:
        file.truncate(plan.size)
    _, esp, _, lvm = partitions.partition(disk, partitions.gpt(plan.partitions, NAMES))
    wanted = [volume_group.Volume(each.name, each.size, (COPIED,)) for each in plan.volumes]
    lvs = volume_group.make(disk, lvm, "test-box", wanted, FIXED)
    filesystems.write_esp(disk, esp, {"EFI/BOOT/BOOTX64.EFI": loader}, FIXED)
    filesystems.write_swap(disk, lvs["swap"], "swap", FIXED)
    return disk


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_the_tools_find_what_was_planned(plan: DiskPlan, tmp_path: Path) -> None:
    disk = make(tmp_path / "one", plan)
    table = json.loads(run("sfdisk", "--json", disk))["partitiontable"]
    assert [row["name"] for row in table["partitions"]] == [p.label for p in plan.partitions]
    assert "No errors" in run("sfdisk", "--verify", disk)
    extents = [
        partitions.Extent(row["start"] * partitions.SECTOR, row["size"] * partitions.SECTOR)
        for row in table["partitions"]
    ]
    with volume_group._lvm(disk, extents[3]) as (lvm, _):
        lvm("vgck", "test-box")
        rows = json.loads(lvm("lvs", *volume_group._REPORT, "-o", "lv_name,lv_size,lv_tags"))
    found = {row["lv_name"]: int(row["lv_size"]) for row in rows["report"][0]["lv"]}
    assert found == {volume.name: volume.size for volume in plan.volumes}
    assert {row["lv_tags"] for row in rows["report"][0]["lv"]} == {COPIED}
    with loop.attached(disk, offset=extents[1].offset, size=extents[1].size) as device:
        assert "BOOTX64  EFI" in run("mdir", "-i", device, "::EFI/BOOT")
        assert run("blkid", "-p", "-s", "TYPE", "-o", "value", device).strip() == "vfat"


def test_two_disks_are_the_same_bytes(plan: DiskPlan, tmp_path: Path) -> None:
    first = make(tmp_path / "one", plan)
    with loop.attached(tmp_path / "disk.img"):  # so that the second one gets other devices
        second = make(tmp_path / "two", plan)
    assert sha256(first) == sha256(second)
    with second.open("r+b") as file:
        file.seek(plan.size // 2)
        file.write(b"x")
    assert sha256(first) != sha256(second)


def test_volumes_that_do_not_fit_are_refused(plan: DiskPlan, tmp_path: Path) -> None:
    disk = tmp_path / "small.raw"
    with disk.open("wb") as file:
        file.truncate(plan.size // 2)
    extents = partitions.partition(disk, partitions.gpt(plan.partitions, NAMES))
    before = held(tmp_path)
    wanted = [volume_group.Volume("root", plan.size)]
    with pytest.raises(Exception, match="insufficient free space"):
        volume_group.make(disk, extents[3], "test-box", wanted, FIXED)
    assert given_back(tmp_path, before)


def test_its_kernel_can_be_read(plan: DiskPlan, tmp_path: Path) -> None:
    disk, files = tmp_path / "disk.raw", tmp_path / "boot"
    files.mkdir()
    (files / "vmlinuz-6.12.9-amd64").write_text("kernel")
    with disk.open("wb") as file:
        file.truncate(plan.size)
    boot = partitions.partition(disk, partitions.gpt(plan.partitions, NAMES))[2]
    extended = f"offset={boot.offset}"
    run("mke2fs", "-q", "-t", "ext4", "-E", extended, "-d", files, disk, f"{boot.size // 1024}k")
    box_disk.read_kernel(disk, tmp_path / "vmlinuz")
    assert (tmp_path / "vmlinuz").read_text() == "kernel"


def test_a_disk_without_a_kernel_is_no_box(plan: DiskPlan, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(plan.size)
    partitions.partition(disk, partitions.gpt(plan.partitions, NAMES))
    with pytest.raises(BoxError, match="is not the disk of a box"):
        box_disk.read_kernel(disk, tmp_path / "vmlinuz")
