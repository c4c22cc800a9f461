"""Copy what a job left in its folder, as the job's user, and follow no link that it made.

All processes of the job have ended. tar reads the folder as the job's user, step by step from
folder to folder, and packs links as links. So it reaches nothing that is not the job's, whatever
lies there; the worker itself reads only tar's stream.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, cast

from kimpipeline.errors import RunError
from kimpipeline.run.sandbox.confined import find_program

# Names in a results directory that only the pipeline writes.
RESERVED = frozenset(
    {
        "kim.log",
        "kimspec.edn",
        "pipeline.stderr",
        "pipeline.stdin",
        "pipeline.stdout",
        "pipelinespec.edn",
        "results.edn.invalid",
    }
)
_OUTPUT, _LOG = "output", "kim.log"  # the KIM API writes the log where the program runs
_MOST_FILES = 10_000
_DEEPEST = 100  # folders
_BLOCK = 2**16


def collect(folder: Path, target: Path, user: int | None, largest: int) -> None:
    """Copy the regular files of ``output`` and the log of a job's folder, but no links or pipes.

    Args:
        folder: the folder of the job, which has ended with all its processes.
        target: the results directory.
        user: the user and group ID of the job; None: this process's own.
        largest: most bytes of all of them.

    Raises:
        RunError: there are more bytes or too many files, a name is reserved, too long or too deep,
            or the job's own user cannot read a file.
    """
    output, log = folder / _OUTPUT, folder / _LOG
    names = [_OUTPUT] if output.is_dir() and not output.is_symlink() else []
    names += [_LOG] if log.is_file() and not log.is_symlink() else []
    if not names:
        return
    argv = [find_program("tar", "tar"), "--create", "--file=-", "--format=gnu"]
    argv += ["--hard-dereference", f"--directory={folder}", "--", *names]
    tar = subprocess.Popen(  # noqa: S603 - an argv list
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    # tar ends when this end of its pipe is closed
    with tar, cast(IO[bytes], tar.stdout) as packed:
        try:
            with tarfile.open(fileobj=packed, mode="r|") as stream:
                _unpack(stream, target, largest)
            while packed.read(_BLOCK):  # what tar fills its last record with
                pass
        except (OSError, tarfile.TarError, RecursionError, ValueError) as error:
            raise RunError(f"output cannot be copied: {type(error).__name__}") from error
    if tar.returncode:
        raise RunError("output cannot be copied: its own user cannot read all of it")


def _unpack(stream: tarfile.TarFile, target: Path, largest: int) -> None:
    left = largest
    for files, member in enumerate(stream):
        top, *below = PurePosixPath(member.name).parts
        path = Path(target, *below) if top == _OUTPUT else target / _LOG
        if top == _OUTPUT and len(below) == 1 and below[0] in RESERVED:
            raise RunError(f"output/{below[0]}: that name is the pipeline's own")
        if len(below) > _DEEPEST:
            raise RunError(f"output is deeper than {_DEEPEST} folders")
        if files > _MOST_FILES:
            raise RunError(f"output has more than {_MOST_FILES} files")
        if member.isdir() and below:
            path.mkdir()
        elif member.isreg():
            left -= member.size
            if left < 0:
                raise RunError(f"output has more than {largest} bytes")
            source = cast(IO[bytes], stream.extractfile(member))
            with path.open("wb") as writer:
                shutil.copyfileobj(source, writer)
