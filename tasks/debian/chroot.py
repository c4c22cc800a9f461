"""Run commands in a chroot, with an environment that does not depend on this process."""

from __future__ import annotations

from pathlib import Path

from tasks.desk import shell


def environment(epoch: int | None = None) -> dict[str, str]:
    """The environment of a command in a chroot.

    ``epoch`` (seconds since 1970) is passed on as SOURCE_DATE_EPOCH.
    """
    fixed = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    return {
        "INITRD": "No",  # packages make no initramfs; update-initramfs -c still does
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 - in the tree; a user's own (libpam-tmpdir) does not exist there
        "TZ": "UTC",
        **fixed,
    }


def chroot_output(root: Path, *argv: str, epoch: int | None = None) -> str:
    """Run a command in a chroot; returns what it printed.

    Raises:
        CommandError: the command is missing or failed.
    """
    return shell.run(["chroot", root, *argv], env=environment(epoch)).stdout
