"""What the facts make of real output of lsblk, blkid, findmnt, wipefs and lvm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys.facts.disks import (
    AttachedFile,
    BlockDevices,
    BlockTree,
    Filesystems,
    KernelSize,
    LoopFile,
    Mount,
    Signatures,
)
from deploys.facts.lvm import Lvm, LvmReport
from deploys.facts.mapper import mapper_path

# lvm2 2.03.16, one VG and one PV without; shortened to the fields the fact asks for
FULLREPORT = """
  {
      "report": [
          {
              "vg": [
                  {"vg_name":"vagrant-pipeline", "vg_size":"310378496", "vg_free":"205520896",
                   "vg_extent_size":"4194304"}
              ]
              ,
              "pv": [
                  {"pv_name":"/dev/vdb3", "vg_name":"vagrant-pipeline", "pv_size":"310378496",
                   "pv_free":"205520896"}
              ]
              ,
              "lv": [
                  {"lv_name":"root", "vg_name":"vagrant-pipeline", "lv_size":"104857600",
                   "origin":"", "lv_layout":"linear", "lv_tags":"resnap.copied,other"},
                  {"lv_name":"root_snap", "vg_name":"vagrant-pipeline", "lv_size":"104857600",
                   "origin":"root", "lv_layout":"linear", "lv_tags":""}
              ]
          }
          ,
          {
              "pv": [
                  {"pv_name":"/dev/vdc", "vg_name":"", "pv_size":"314572800",
                   "pv_free":"314572800"}
              ]
              ,
              "pvseg": [
                  {"pv_name":"/dev/vdc"}
              ]
          }
      ]
  }
"""


def node(path: str, kind: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    columns = ("fstype", "pttype", "uuid", "partlabel", "parttype")
    row = {"path": path, "type": kind, "size": 1024, "ro": False, "mountpoints": [None]}
    return row | dict.fromkeys(columns) | more | ({"children": list(children)} if children else {})


def tree(*blkid: str) -> BlockTree:
    root = node("/dev/mapper/box-root", "lvm", mountpoints=["/"], fstype="ext4")
    vda1 = node("/dev/vda1", "part", mountpoints=["/boot"], pttype="gpt", fstype="vfat")
    nodes = [
        node("/dev/vda", "disk", vda1, node("/dev/vda2", "part", root), pttype="gpt"),
        node("/dev/vdb", "disk", root, size="2048"),
        node("/dev/vdc", "disk", ro=True),
    ]
    return BlockDevices().process([json.dumps({"blockdevices": nodes}), *blkid])


def test_lvm_is_read_into_types() -> None:
    report = Lvm().process(FULLREPORT.splitlines())
    group = report.group("vagrant-pipeline")
    assert group is not None
    assert (group.size, group.free, group.extent_size) == (310378496, 205520896, 4194304)
    snapshot = report.lv_at("/dev/mapper/vagrant--pipeline-root_snap")
    assert snapshot is not None
    assert (snapshot.origin, snapshot.tags) == ("root", ())
    golden = group.lv("root")
    assert golden is not None
    assert golden.tags == ("resnap.copied", "other")
    assert [pv.device for pv in report.orphans] == ["/dev/vdc"]
    orphan = report.pv("/dev/vdc")
    assert orphan is not None
    assert orphan.vg == ""


def test_no_lvm_is_an_empty_report() -> None:
    assert Lvm().requires_command() == "lvm"
    assert Lvm.default() == LvmReport()
    assert Lvm().process(['{"report": []}']) == LvmReport()


def test_hyphens_in_both_names_are_doubled() -> None:
    assert mapper_path("vagrant-pipeline", "a-b_c") == "/dev/mapper/vagrant--pipeline-a--b_c"


def test_what_blkid_probed_counts_more_than_what_udev_noted() -> None:
    blkid = ("DEVNAME=/dev/vda1", "TYPE=ext4", "PART_ENTRY_NAME=resnap\\ boot", "", "UUID=1-2")
    boot = tree(*blkid).find("/dev/vda1")
    assert boot is not None
    assert (boot.fstype, boot.partlabel, boot.uuid) == ("ext4", "resnap boot", "1-2")
    assert boot.pttype == ""  # that is its disk's


def test_a_tree_knows_which_disks_a_volume_lies_on() -> None:
    blocks = tree()
    root = "/dev/mapper/box-root"
    assert [disk.path for disk in blocks.disks_under(root)] == ["/dev/vda", "/dev/vdb"]
    assert [device.path for device in blocks.stack(root)] == [
        "/dev/vda",
        "/dev/vda2",
        root,
        "/dev/vdb",
        root,
    ]
    assert [(disk.size, disk.ro) for disk in blocks.disks] == [
        (1024, False),
        (2048, False),
        (1024, True),
    ]
    assert blocks.find("/dev/vdz") is None


def test_mounts_have_their_usage_and_none_where_it_is_unknown() -> None:
    rows = [
        {"target": "/", "source": "/dev/vda1", "fstype": "ext4", "size": 9, "used": 4, "avail": 5},
        {"target": "/x", "source": "s", "fstype": "fuse", "size": "7", "used": None, "avail": None},
    ]
    assert Filesystems().process([json.dumps({"filesystems": rows})]) == (
        Mount("/", "/dev/vda1", "ext4", 9, 4, 5),
        Mount("/x", "s", "fuse", 7),
    )


def test_a_subvolume_of_btrfs_lies_on_its_device() -> None:
    """A folder that is mounted elsewhere keeps its name: a box in a file has such a /boot."""
    sizes = {"size": 9, "used": 4, "avail": 5}
    rows = [
        {"target": "/", "source": "/dev/vda1[/@rootfs]", "fstype": "btrfs", **sizes},
        {"target": "/boot", "source": "/dev/vda1[/pipeline/boot]", "fstype": "ext4", **sizes},
    ]
    root, boot = Filesystems().process([json.dumps({"filesystems": rows})])
    assert root == Mount("/", "/dev/vda1", "btrfs", 9, 4, 5)
    assert boot.source == "/dev/vda1[/pipeline/boot]"


def test_a_gpt_is_named_once_and_without_its_protective_mbr() -> None:
    assert Signatures().process(["gpt ", "gpt", "PMBR", "zfs_member"]) == ("gpt", "zfs_member")
    assert Signatures().process(["PMBR"]) == ("PMBR",)


def test_the_largest_kernel_and_initrd_are_added() -> None:
    sizes = ["vmlinuz-6.1 12", "vmlinuz-6.12 10", "initrd.img-6.1 30", "initrd.img-6.12 40"]
    assert KernelSize().process(sizes) == 52


def test_a_file_is_there_or_attached_or_neither() -> None:
    read = AttachedFile().process
    assert read([]) == LoopFile()
    assert read(["free /dev/loop0"]) == LoopFile(device="/dev/loop0")
    begun = ["size 4096", "free /dev/loop0"]
    assert read(begun) == LoopFile(4096, device="/dev/loop0")
    assert read(["whole yes", *begun]).whole
    attached = ["size 4096", "attached /dev/loop0", "free /dev/loop1"]
    assert read(attached) == LoopFile(4096, device="/dev/loop0", attached=True)


@pytest.mark.commands
def test_a_file_that_is_begun_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "it's a box.img"
    fact = AttachedFile()

    def read() -> LoopFile:
        command = fact.command(path=str(path)).get_raw_value()
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        return fact.process(done.stdout.splitlines())

    assert (read().size, read().whole) == (0, False)
    path.with_name(f"{path.name}.new").write_bytes(bytes(512))
    assert (read().size, read().whole, read().attached) == (512, False, False)
    path.with_name(f"{path.name}.new").rename(path)
    assert (read().size, read().whole, read().attached) == (512, True, False)
