"""Commands in a chroot, with an environment of their own."""

from __future__ import annotations

from pathlib import Path

from tasks.desk import shell


def environment(epoch: int | None = None) -> dict[str, str]:
    """What commands in a chroot are given, whatever this process was; ``epoch`` as a fixed time."""
    fixed = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    return {
        "INITRD": "No",  # a package's hooks make none; update-initramfs -c does
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 - the tree's; a user's own (libpam-tmpdir) is not there
        "TZ": "UTC",
        **fixed,
    }


def chroot_output(root: Path, *argv: str, epoch: int | None = None) -> str:
    """What a command in the chroot printed."""
    return shell.run(["chroot", root, *argv], env=environment(epoch)).stdout
