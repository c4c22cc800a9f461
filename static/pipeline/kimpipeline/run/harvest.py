"""Copy what a job left in its folder, as the job's user, and follow no link that it made.

All processes of the job have ended. tar reads the folder as the job's user, step by step from
folder to folder, and packs links as links. So it reaches nothing that is not the job's, whatever
lies there; the worker itself reads only tar's stream.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
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
    if names:
        with _packed(folder, names, user) as stream:
            for member, top, below in _members(stream, largest):
                path = Path(target, *below) if top == _OUTPUT else target / _LOG
                if top == _OUTPUT and len(below) == 1 and below[0] in RESERVED:
                    raise RunError(f"output/{below[0]}: that name is the pipeline's own")
                _write(stream, member, path)


def take(folder: Path, target: Path, user: int | None, largest: int) -> None:
    """Copy all of ``output`` that a program of another job can use; arguments are as ``collect``'s.

    Programs stay programs. A link stays one if it leads to something below its own folder.

    Raises:
        RunError: as ``collect``, or there is no such folder.
    """
    if not (folder / _OUTPUT).is_dir() or (folder / _OUTPUT).is_symlink():
        raise RunError("its own folder is gone")
    links = {}
    with _packed(folder, [_OUTPUT], user) as stream:
        for member, _, below in _members(stream, largest):
            path = Path(target, *below)
            _write(stream, member, path)
            if member.isreg() and member.mode & 0o100:
                path.chmod(0o755)
            elif member.issym() and not {"/", ".."} & {*PurePosixPath(member.linkname).parts}:
                links[path] = member.linkname
        for path, name in links.items():  # at last: nothing is written through one
            path.symlink_to(name)


@contextlib.contextmanager
def _packed(folder: Path, names: list[str], user: int | None) -> Iterator[tarfile.TarFile]:
    """These parts of a job's folder, as a stream of tar that the job's user reads."""
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
                yield stream
            while packed.read(_BLOCK):  # what tar fills its last record with
                pass
        except (OSError, tarfile.TarError, RecursionError, ValueError) as error:
            raise RunError(f"output cannot be copied: {type(error).__name__}") from error
    if tar.returncode:
        raise RunError("output cannot be copied: its own user cannot read all of it")


def _members(
    stream: tarfile.TarFile, largest: int
) -> Iterator[tuple[tarfile.TarInfo, str, list[str]]]:
    """What is in a stream, each with the first part of its name and the others, within limits."""
    left = largest
    for files, member in enumerate(stream):
        top, *below = PurePosixPath(member.name).parts
        if len(below) > _DEEPEST:
            raise RunError(f"output is deeper than {_DEEPEST} folders")
        if files > _MOST_FILES:
            raise RunError(f"output has more than {_MOST_FILES} files")
        left -= member.size if member.isreg() else 0
        if left < 0:
            raise RunError(f"output has more than {largest} bytes")
        if below or top != _OUTPUT:
            yield member, top, below


def _write(stream: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write a folder or a regular file; whatever else there is, is left out."""
    if member.isdir():
        path.mkdir()
    elif member.isreg():
        source = cast(IO[bytes], stream.extractfile(member))
        with path.open("wb") as writer:
            shutil.copyfileobj(source, writer)
