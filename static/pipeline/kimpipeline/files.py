"""Open and remove files that an untrusted program made; follow none of its links."""

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
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return file


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
