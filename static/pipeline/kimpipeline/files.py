"""Open, replace and remove files that somebody else may have made; follow none of their links."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: there is none; a link is not followed, and a pipe or a device does not block.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    opened = os.open(path, flags)
    try:
        file = os.fdopen(opened, "rb")
    except OSError:  # of a folder, which it leaves open
        os.close(opened)
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return file


def own_folder(folder: Path) -> None:
    """Have a folder of this user's there, where nobody else writes; what is no folder is removed.

    What lies in /persistent may be of somebody who was root before a reset.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir() and not folder.is_symlink():
        state = folder.stat()
        if state.st_uid != os.geteuid():
            os.chown(folder, os.geteuid(), -1)
        if state.st_mode & 0o022:
            folder.chmod(state.st_mode & 0o755)
    else:
        folder.unlink(missing_ok=True)
        folder.mkdir(parents=True)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that a job's user can enter; it is removed at the end, with all in it."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder with all in it, at any depth, also where permissions forbid it.

    Raises:
        OSError: a part of it could not be removed.
    """
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for argv in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
            subprocess.run([*argv, "--", str(folder)], capture_output=True, check=False)  # noqa: S603
        if folder.exists():
            raise
