"""Items come and results go by rsync: from and to a folder, or through a gateway's account."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kimpipeline.errors import ItemError, TransferError
from kimpipeline.files import own_folder
from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.kimid import check_kimid
from kimpipeline.settings import Remote
from kimpipeline.waiting import ends_within

Beat = Callable[[], None]
# Others wrote the items: links may lead only to files of the same item, and the modes are set here,
# except that programs stay programs.
_FETCH = ("-rlptE", "--safe-links", "--chmod=D0755,Fu+rw,Fgo+r,Fgo-w,Fug-s")
_NOT_THERE = 23  # rsync: some files could not be transferred, as when all items are missing


def fetch(kimid: str, items: ItemFolder, remote: Remote, beat: Beat) -> None:
    """Fetch an item, unless it is here already: a version never changes.

    Raises:
        ItemError: the name is no KIM id, or the item does not exist or is not valid.
        TransferError: rsync failed.
    """
    target = items.root / check_kimid(kimid)
    if remote.items is None:
        items.get(kimid)
        return
    _make(items.root)
    if target.is_symlink() or target.is_file():
        target.unlink()  # it is no item, and would bar this one for ever
    if target.is_dir():
        items.get(kimid)
        return
    part = Path(tempfile.mkdtemp(dir=items.root, prefix=".part-"))
    try:
        part.chmod(0o755)
        # by a filter: for a missing path a gateway answers as if the connection broke
        only = [f"--include=/{kimid}/", f"--include=/{kimid}/**", "--exclude=*"]
        code = _rsync(remote, [*_FETCH, *only], remote.items, f"{part}/", beat)
        if code == _NOT_THERE or (not code and not (part / kimid).is_dir()):
            raise ItemError(f"{kimid}: there is no such item at {remote.items}")
        if code:
            raise TransferError(f"{kimid} could not be fetched: rsync's exit code is {code}")
        try:
            (part / kimid).rename(target)
        except OSError:  # another worker was faster
            items.get(kimid)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    items.get(kimid)


def mirror(items: ItemFolder, remote: Remote, beat: Beat) -> None:
    """Fetch all items, unless this machine has them anyway.

    Raises:
        TransferError: rsync failed.
    """
    if remote.items is None:
        return
    _make(items.root)
    code = _rsync(remote, _FETCH, remote.items, f"{items.root}/", beat)
    if code:
        raise TransferError(f"the items could not be fetched: rsync's exit code is {code}")


def deliver(folder: Path, job: str, remote: Remote, beat: Beat) -> None:
    """Deliver what a job left in ``folder``; the same folder again changes nothing.

    A gateway keeps an earlier result of the job, and puts this one beside it. In results on this
    machine the job's folder becomes equal to ``folder``.

    Raises:
        TransferError: rsync failed.
    """
    flags = ["-rt", "--chmod=D0755,F0644"]
    if remote.results.startswith("/"):
        flags.append("--delete")
        try:
            Path(remote.results).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TransferError(f"{remote.results}: {error.strerror}") from error
    code = _rsync(remote, flags, f"{folder}/", f"{remote.results}{job}/", beat)
    if code:
        raise TransferError(f"{job} could not be delivered: rsync's exit code is {code}")


def _make(folder: Path) -> None:
    try:
        own_folder(folder)
    except OSError as error:
        raise TransferError(f"{folder}: {error.strerror}") from error


def _rsync(remote: Remote, flags: Sequence[str], source: str, target: str, beat: Beat) -> int:
    program = shutil.which(remote.rsync)
    if program is None:
        raise TransferError(f"{remote.rsync} is not installed")
    argv = [program, "--quiet", f"--timeout={remote.timeout}", f"--rsh={shlex.join(remote.ssh)}"]
    deadline = time.monotonic() + remote.timeout
    with subprocess.Popen(  # noqa: S603 - an argv list
        [*argv, *flags, "--", source, target], stdin=subprocess.DEVNULL, env=_environment()
    ) as process:
        try:
            while not ends_within(process, 1.0):
                beat()
                if time.monotonic() > deadline:
                    raise TransferError(f"rsync: not done after {remote.timeout} s")
            return process.wait()
        except BaseException:
            process.kill()
            raise


def _environment() -> dict[str, str]:
    """This process's environment, without the variables that add options to rsync."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
