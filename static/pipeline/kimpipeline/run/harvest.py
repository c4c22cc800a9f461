"""Copy what a job left in its folder, and follow no link that it made."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from kimpipeline.errors import RunError
from kimpipeline.files import open_regular

# Names in a results directory that only the pipeline writes.
RESERVED = frozenset(
    {
        "kim.log",
        "kimspec.edn",
        "pipeline.stderr",
        "pipeline.stdin",
        "pipeline.stdout",
        "pipelinespec.edn",
    }
)
_MOST_FILES = 10_000


def copy_tree(source: Path, target: Path, largest: int) -> None:
    """Copy the regular files below ``source`` to ``target``, but no links, pipes or devices.

    The job and all its processes have ended, so nothing changes meanwhile.

    Raises:
        RunError: there are more than ``largest`` bytes or too many files, or a name is reserved,
            too long or too deep.
    """
    try:
        _copy_tree(source, target, largest)
    except (OSError, RecursionError) as error:
        raise RunError(f"output cannot be copied: {type(error).__name__}") from error


def _copy_tree(source: Path, target: Path, largest: int) -> None:
    left, files = largest, 0
    for path, folders, names in os.walk(source):  # does not follow links to folders
        here = target / Path(path).relative_to(source)
        if here != target:
            here.mkdir()
        reserved = RESERVED & {*folders, *names} if here == target else ()
        if reserved:
            raise RunError(f"output/{min(reserved)}: that name is the pipeline's own")
        files += len(names) + len(folders)
        if files > _MOST_FILES:
            raise RunError(f"output has more than {_MOST_FILES} files")
        for name in names:
            found = Path(path, name).lstat()
            if not stat.S_ISREG(found.st_mode):
                continue
            left -= found.st_size
            if left < 0:
                raise RunError(f"output has more than {largest} bytes")
            copy_file(Path(path, name), here / name)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a regular file, not its mode or owner; never through a link."""
    with open_regular(source) as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer)
