"""What a job left in its folder, taken over without following anything it made."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from kimpipeline.errors import RunError
from kimpipeline.files import open_regular

# Names that are the pipeline's own in a results directory.
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
    """Copy the regular files below ``source`` to ``target``; links, pipes and the like stay.

    The job has ended, all its processes with it, so nothing changes meanwhile.

    Raises:
        RunError: they are more than ``largest`` bytes or too many files, or a name is taken, or
            too long or too deep.
    """
    try:
        _copy_tree(source, target, largest)
    except (OSError, RecursionError) as error:
        raise RunError(f"output cannot be taken over: {type(error).__name__}") from error


def _copy_tree(source: Path, target: Path, largest: int) -> None:
    left, files = largest, 0
    for path, folders, names in os.walk(source):  # does not go into links to folders
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
    """Copy a regular file's content, and nothing else of it; never through a link."""
    with open_regular(source) as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer)
