"""The one door for commands that run on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploys.errors import BoxError

# Debian's package for a program of another name.
_PACKAGES = {
    "VBoxManage": "virtualbox, in contrib of unstable alone",
    "blkid": "util-linux",
    "chroot": "coreutils",
    "losetup": "mount",
    "lvm": "lvm2",
    "mcopy": "mtools",
    "mformat": "mtools",
    "mke2fs": "e2fsprogs",
    "mkswap": "util-linux",
    "mmd": "mtools",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ssh-keyscan": "openssh-client",
    "unshare": "util-linux",
}
# A user's PATH on Debian lacks the folders of the tools that lay out disks.
_SBIN = ("/usr/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended, with what it printed."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class CommandError(BoxError):
    """A local command is missing, failed or took too long.

    ``argv`` is the command, ``returncode`` its exit code (None: it never ended by itself),
    ``stderr`` all it said; the message is one line with the last thing it said.
    """

    def __init__(
        self, message: str, argv: Sequence[str], returncode: int | None = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr


def find(program: str) -> str:
    """The path of a program on PATH or in a sbin folder.

    Raises:
        CommandError: it is not installed; the line names Debian's package.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    found = shutil.which(program, path=path)
    if found is None:
        name = Path(program).name
        package = _PACKAGES.get(name, name)
        raise CommandError(f"{name} is not installed; Debian's package is {package}", (program,))
    return found


def run(
    argv: Sequence[str | Path],
    *,
    input: str | None = None,  # noqa: A002 - the name subprocess.run gave it
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Run a command to its end, without a shell and without this process's standard input.

    Args:
        argv: the program and its arguments.
        input: what it reads on its standard input; not given: nothing.
        env: variables on top of this process's own.
        cwd: the folder it runs in.
        timeout: seconds until it is killed.
        check: raise when the exit code is not 0.

    Raises:
        CommandError: the program is missing, failed (with ``check``) or ran out of time.
    """
    words = tuple(str(word) for word in argv)
    program = find(words[0])
    try:
        done = subprocess.run(  # noqa: S603 - argv lists only, no shell
            (program, *words[1:]),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{_short(words)}: not done after {timeout:g} s"
        raise CommandError(message, words) from error
    except OSError as error:
        raise CommandError(f"{_short(words)}: {error.strerror}", words) from error
    if check and done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        message = f"{_short(words)} failed with exit code {done.returncode}: {lines[-1].strip()}"
        raise CommandError(message, words, done.returncode, done.stderr)
    return Completed(words, done.returncode, done.stdout, done.stderr)


def _short(argv: Sequence[str]) -> str:
    line = shlex.join(argv).replace("\n", " ")
    return line if len(line) <= 80 else f"{line[:77]}..."
