"""Write the disk of a new box: partitions, logical volumes, filesystems and GRUB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploys.errors import BoxError
from deploys.operations.root import COPIED
from deploys.plan.of_image import DiskPlan
from tasks.debian.worktree import Worktree
from tasks.desk import loop, shell
from tasks.disks import filesystems, grub, partitions, volume_group
from tasks.disks.identifiers import Fixed

_DISK = "run/disk"
# Indexes of these partitions on a box's disk; see DiskPlan.
BOOT, LVM = 2, 3


def write(
    disk: Path,
    plan: DiskPlan,
    volgroup: str,
    tree: Worktree,
    fixed: Fixed,
    progress: Callable[[str], None],
) -> None:
    """Write a box's disk into the file ``disk``, from a finished root tree.

    Raises:
        BoxError: the files do not fit on their volume, or a tool failed.
    """
    progress("laying out the disk")
    with disk.open("wb") as file:
        file.truncate(plan.size)
    table = partitions.gpt(plan.partitions, fixed.identifiers)
    _, esp, boot, lvm = partitions.partition(disk, table)
    wanted = [
        # The tag marks a complete golden root; without a snapshot, maintenance knows a box by it.
        volume_group.Volume(each.name, each.size, (COPIED,) if each is plan.root else ())
        for each in plan.volumes
    ]
    lvs = volume_group.make(disk, lvm, volgroup, wanted, fixed)
    for each in plan.own:
        if each.fstype == "swap":
            filesystems.write_swap(disk, lvs[each.name], each.name, fixed)
    progress("installing GRUB")
    grub.install_bios(tree.root, disk, fixed.time)
    loader = grub.uefi_image(tree.root, fixed.identifiers.uuid("boot"), fixed.time)
    filesystems.write_esp(disk, esp, {grub.UEFI_PATH: loader}, fixed)
    extents = {**lvs, "boot": boot, "root": lvs[plan.root.name]}
    (tree.root / _DISK).touch()
    with loop.mounted(disk, tree.root / _DISK, "--bind"):
        for label, source in tree.sources.items():
            progress(f"writing {label}")
            filesystems.write_ext4(tree.root, source, f"/{_DISK}", extents[label], label, fixed)


def read_kernel(disk: Path, target: Path) -> None:
    """Copy a Linux image from a box's disk to the file ``target``, without mounting the disk.

    Raises:
        BoxError: the disk has no Linux image, or it cannot be read.
    """
    boot = partitions.extents(disk)[BOOT]
    device = f"{disk}?offset={boot.offset}"
    # debugfs(8) exits with 0 when a request failed
    listed = shell.run(["debugfs", "-R", "ls -p /", device], check=False).stdout
    names = [line.split("/")[5] for line in listed.splitlines() if line.count("/") > 5]
    kernels = sorted(name for name in names if name.startswith("vmlinuz-"))
    if not kernels:
        raise BoxError(f"{disk} is not the disk of a box: it has no Linux image")
    target.unlink(missing_ok=True)
    shell.run(["debugfs", "-R", f"dump /{kernels[-1]} {target}", device])
    if not target.exists():
        raise BoxError(f"the Linux image of {disk} cannot be read")
