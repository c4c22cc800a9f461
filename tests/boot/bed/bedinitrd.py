"""The test bed's initrd: the built box's own, and over it the bed's files and the tree's reset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock

from deploys.operations.root import FILE
from tasks.debian import chroot
from tasks.desk import loop, shell
from tasks.desk.places import ROOT
from tasks.disks import partitions, volume_group
from tests.boot.bed.beddisk import GROUP, PAYLOAD

INITRD = Path(__file__).parent / "initrd"
# What an initrd of a box in a file says while it waits for the host's root, again and again.
WAITS = "bed: waits for the root"
WAITING = {
    "scripts/local-block/ORDER": f'echo "{WAITS}" >/dev/console\n/scripts/local-block/resnap "$@"\n'
}
# The files of the tree that the initramfs has, by their paths there.
_OF_THE_TREE = {
    **{
        f"usr/lib/resnap/{name}": f"usr/lib/resnap/{name}"
        for name in ("resnap", "lib.sh", "trial-deadline")
    },
    **{
        f"scripts/{step}/resnap": f"etc/initramfs-tools/scripts/{step}/resnap"
        for step in ("init-top", "local-premount", "local-block", "local-bottom")
    },
}


def take_kernel(box: Path, folder: Path) -> tuple[Path, Path]:
    """The kernel and the initrd of a box's image, copied to a folder; once for all that ask."""
    found = (folder / "bed-vmlinuz", folder / "bed-initrd")
    with FileLock(folder / "bed.lock"):
        if not found[1].exists():
            parts = json.loads(shell.run(["sfdisk", "--json", box]).stdout)["partitiontable"]
            [part] = [part for part in parts["partitions"] if part["name"] == "resnap-boot"]
            place = {name: part[name] * partitions.SECTOR for name in ("start", "size")}
            with (
                loop.attached(box, offset=place["start"], size=place["size"]) as device,
                loop.temporary_folder(folder) as boot,
                loop.mounted(device, boot, "-o", "ro,noload"),
            ):
                for file, target in zip(("vmlinuz-*", "initrd.img-*"), found, strict=True):
                    shutil.copy(next(boot.glob(file)), target)
    return found


def make_of_file(box: Path, path: Path) -> Path:
    """The initrd that the box of an image would have if it lay in a file, made by its own tools."""
    *_, boot, group = partitions.extents(box)
    root = volume_group.find(box, group, GROUP)["root"]
    with ExitStack() as stack:
        top = stack.enter_context(loop.temporary_folder(path.parent))
        for extent, place in ((root, top), (boot, top / "boot")):
            device = loop.attached(box, offset=extent.offset, size=extent.size)
            mounted = loop.mounted(stack.enter_context(device), place, "-o", "ro,noload")
            stack.enter_context(mounted)
        stack.enter_context(loop.chroot(top))
        defaults = top / "etc/default/resnap"
        changed = top / "run/resnap"
        changed.write_text(f"{defaults.read_text()}VOLFILE={FILE}\n")
        stack.enter_context(loop.mounted(changed, defaults, "--bind"))
        [kernel] = (top / "boot").glob("vmlinuz-*")
        version = kernel.name.partition("-")[2]
        environment = {**chroot.environment(), "TMPDIR": "/run"}
        shell.run(["chroot", top, "mkinitramfs", "-o", "/run/initrd", version], env=environment)
        shutil.copy(top / "run/initrd", path)
    return path


def make_initrd(
    of_box: Path, path: Path, changed: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """The box's initrd with the bed's files, and the reset of this very tree.

    Each later archive of an initrd lies over those before it. ``changed`` are files by their path
    with another content.
    """
    tree = path.with_name(f"{path.name}-tree")
    shutil.copytree(INITRD, tree)
    for name, source in _OF_THE_TREE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "static/onbox" / source, tree / name)
    (tree / "bed/payload").write_bytes(PAYLOAD)
    for name, text in changed.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    names = "".join(f"{file.relative_to(tree)}\n" for file in sorted(tree.rglob("*")))
    added = path.with_suffix(".added")
    argv: list[str | Path] = ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "-O", added]
    shell.run(argv, input=names, cwd=tree)
    shutil.rmtree(tree)
    # the kernel wants the next archive at a multiple of four
    data = of_box.read_bytes()
    path.write_bytes(data + bytes(-len(data) % 4) + added.read_bytes())
    added.unlink()
    return path
