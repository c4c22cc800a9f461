"""The chroot in which a box's root is made, on scratch filesystems for the root and for /boot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploys.settings import own_volumes
from tasks.debian.layer import ROOT
from tasks.desk import loop, shell

SOURCE = "run/source"


@dataclass(frozen=True, slots=True)
class Worktree:
    """A chroot that is ready for commands, and the scratch filesystem that it is on.

    ``sources`` maps the label of each of the box's filesystems to the folder that it is made from,
    a path in the chroot; nothing is mounted below these folders.
    """

    root: Path
    scratch: Path

    @property
    def sources(self) -> dict[str, str]:
        return {
            "boot": "/boot",
            **{row.name: f"/{SOURCE}/{row.name}" for row in own_volumes.mounted()},
            "root": f"/{SOURCE}/root",
        }


@contextmanager
def copied(layer: Path, folder: Path, boot_size: int, boot_uuid: str) -> Iterator[Worktree]:
    """Copy a package layer and mount the copy as a chroot; it is deleted when the block ends.

    Args:
        layer: the layer's file, see tasks/debian/layer.py.
        folder: for the files of the scratch filesystems.
        boot_size: of the filesystem at ``/boot``, in bytes.
        boot_uuid: its UUID; GRUB's entries contain it.

    Raises:
        BoxError: there is no room for it.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        device = enter(loop.scratch_copy(layer, folder))
        work = enter(loop.temporary_folder(folder))
        enter(loop.scratch_mounted(device, work))
        root = enter(loop.temporary_folder(folder))
        enter(loop.mounted(work / ROOT, root, "--bind"))
        boot = enter(loop.scratch(folder, boot_size, boot_uuid))
        with loop.temporary_folder(folder) as place, loop.scratch_mounted(boot, place):
            shell.run(["cp", "--archive", f"{root}/boot/.", place])
        shell.run(["find", root / "boot", "-mindepth", "1", "-delete"])
        enter(loop.scratch_mounted(boot, root / "boot"))
        for row in own_volumes.mounted():
            (work / row.name).mkdir(mode=0o755)
            place = root / row.mount.lstrip("/")
            place.mkdir(parents=True)
            enter(loop.mounted(work / row.name, place, "--bind"))
        # update-grub writes there. grub-install would make the folder, but it runs last.
        (root / "boot/grub").mkdir(exist_ok=True)
        # update-grub treats a device named /dev/loop0 specially and would look for its file.
        enter(loop.chroot(root, {"image-root": device, "image-boot": boot}))
        (root / SOURCE).mkdir()
        enter(loop.mounted(work, root / SOURCE, "--bind"))
        yield Worktree(root, work)
