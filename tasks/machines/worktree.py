"""A box's root in the making: a chroot on scratch filesystems, with its /boot and /persistent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.machines import loop, tree

SOURCE = "run/source"


@dataclass(frozen=True, slots=True)
class Worktree:
    """A chroot that is ready for commands, and the scratch filesystem that it lies on.

    ``sources`` are the folders that the box's filesystems are made from, by those filesystems'
    labels, as paths in the chroot; nothing is mounted below them.
    """

    root: Path
    scratch: Path

    @property
    def sources(self) -> dict[str, str]:
        return {
            "boot": "/boot",
            "persistent": f"/{SOURCE}/persistent",
            "root": f"/{SOURCE}/root",
        }


@contextmanager
def unpacked(
    tar: Path, folder: Path, size: int, boot_size: int, boot_uuid: str
) -> Iterator[Worktree]:
    """The system of a tar file, unpacked; it goes when the block ends.

    Args:
        tar: the root tree.
        folder: where the scratch filesystems' files lie.
        size: the most that it may take, in bytes.
        boot_size: of the filesystem at ``/boot``, in bytes.
        boot_uuid: of that filesystem; GRUB's entries name the one they are made on.

    Raises:
        BoxError: no room for it.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        device = enter(loop.scratch(folder, size))
        work = enter(loop.temporary_folder(folder))
        enter(loop.mounted(device, work))
        for name in ("root", "persistent"):
            (work / name).mkdir(mode=0o755)
        root = enter(loop.temporary_folder(folder))
        enter(loop.mounted(work / "root", root, "--bind"))
        boot = enter(loop.scratch(folder, boot_size, boot_uuid))
        for name in ("boot", "persistent"):
            (root / name).mkdir()
        enter(loop.mounted(boot, root / "boot"))
        enter(loop.mounted(work / "persistent", root / "persistent", "--bind"))
        tree.unpack(tar, root)
        loop.flush(work, folder)
        # update-grub writes there; grub-install, which would make it, comes last.
        (root / "boot/grub").mkdir(exist_ok=True)
        # update-grub knows /dev/loop0 by its name, and would look for the file it stands for.
        enter(loop.chroot(root, {"image-root": device, "image-boot": boot}))
        (root / SOURCE).mkdir()
        enter(loop.mounted(work, root / SOURCE, "--bind"))
        yield Worktree(root, work)
