"""Run commands on this machine; all of the project's local commands go through here."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploys.errors import BoxError

# Debian's packages, where they are named other than the program. Providers of guests have more.
_PACKAGES = {
    "apt-get": "apt",
    "blkid": "util-linux",
    "bwrap": "bubblewrap",
    "chroot": "coreutils",
    "dpkg-deb": "dpkg",
    "fallocate": "util-linux",
    "fstrim": "util-linux",
    "losetup": "mount",
    "lvm": "lvm2",
    "mcopy": "mtools",
    "mformat": "mtools",
    "mke2fs": "e2fsprogs",
    "mkswap": "util-linux",
    "mmd": "mtools",
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ssh-keyscan": "openssh-client",
    "unshare": "util-linux",
}
# On Debian these folders are not in a user's PATH, and the tools for disks are in them.
_SBIN = ("/usr/sbin", "/sbin")
# The tool parses what commands print: in English, with a decimal point. LANGUAGE outranks C.UTF-8.
_LOCALE = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}
# Seconds without output after which ``follow`` calls its caller with an empty line.
_PATIENCE = 0.2


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended, and its output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class CommandError(BoxError):
    """A local command is missing, failed or took too long.

    ``argv`` is the command, ``returncode`` its exit code (None: it was killed or not started),
    ``stderr`` its whole standard error. The message is one line that ends with the last line of it.
    """

    def __init__(
        self, message: str, argv: Sequence[str], returncode: int | None = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr


def find(program: str, package: str = "") -> str:
    """Find a program on PATH or in a sbin folder; returns its path.

    Args:
        program: its name or path.
        package: Debian's package that has it; empty: from the table above, else the program's name.

    Raises:
        CommandError: the program is not installed; the line names Debian's package.
    """
    found = _which(program)
    if found is None:
        name = Path(program).name
        package = package or _package(name)
        raise CommandError(f"{name} is not installed; Debian's package is {package}", (program,))
    return found


def missing(programs: Sequence[str]) -> dict[str, str]:
    """Those of some programs that are not installed, each with Debian's package that has it."""
    return {name: _package(name) for name in programs if _which(name) is None}


def _which(program: str) -> str | None:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    return shutil.which(program, path=path)


def _package(name: str) -> str:
    return _PACKAGES.get(name, name)


def run(
    argv: Sequence[str | Path],
    *,
    input: str | None = None,  # noqa: A002 - the name subprocess.run gave it
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Run a command to its end, without a shell; it does not read this process's standard input.

    Args:
        argv: the program and its arguments.
        input: the text on its standard input; None: an empty input.
        env: variables in addition to this process's own and to the C locale.
        cwd: the folder it runs in.
        timeout: seconds until it is killed.
        check: whether an exit code other than 0 raises.

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
            env={**os.environ, **_LOCALE, **(env or {})},
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
        raise _failure(words, done.returncode, done.stderr, done.stdout)
    return Completed(words, done.returncode, done.stdout, done.stderr)


def follow(argv: Sequence[str | Path], on_line: Callable[[str], None]) -> None:
    """Run a command to its end, and pass on each line that it prints while it runs.

    Args:
        argv: the program and its arguments.
        on_line: called with each line, and several times a second with an empty one. A carriage
            return ends a line too. An exception that it raises kills the command.

    Raises:
        CommandError: the program is missing or failed.
    """
    words = tuple(str(word) for word in argv)
    program = find(words[0])
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 - argv lists only, no shell
            (program, *words[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, **_LOCALE},
        ) as process,
    ):
        try:
            _pass_lines(process, on_line)
            returncode = process.wait()
        except BaseException:
            process.kill()
            raise
        said.seek(0)
        stderr = said.read().decode(errors="replace")
    if returncode != 0:
        raise _failure(words, returncode, stderr)


@dataclass(frozen=True, slots=True)
class Wired:
    """A command that runs; its standard input and output are the other end of ``socket``."""

    socket: socket.socket
    _process: subprocess.Popen[bytes]
    _said: IO[bytes]

    def last_words(self) -> str:
        """The last line of its standard error, if it has ended or ends within a second."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
            self._said.seek(0)
            return self._said.read().decode(errors="replace").strip().rpartition("\n")[2].strip()
        return ""

    def close(self) -> None:
        """End the command."""
        self.socket.close()
        self._process.terminate()
        self._process.wait()
        self._said.close()


def wired(argv: Sequence[str | Path]) -> Wired:
    """Start a command that talks over a socket; it has no terminal to ask anything on.

    Raises:
        CommandError: the program is missing.
    """
    words = tuple(str(word) for word in argv)
    program = find(words[0])
    near, far = socket.socketpair()
    said = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the command runs
    with far:
        process = subprocess.Popen(  # noqa: S603 - argv lists only, no shell
            (program, *words[1:]),
            stdin=far.fileno(),
            stdout=far.fileno(),
            stderr=said,
            env={**os.environ, **_LOCALE, "SSH_ASKPASS_REQUIRE": "never"},
            start_new_session=True,
        )
    return Wired(near, process, said)


def _pass_lines(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None
    output, rest = process.stdout.fileno(), b""
    while True:
        ready, _, _ = select.select([output], [], [], _PATIENCE)
        if ready:
            more = os.read(output, 4096)
            if not more:
                return
            *lines, rest = re.split(rb"[\r\n]", rest + more)
            for line in lines:
                on_line(line.decode(errors="replace"))
        on_line("")


def _failure(
    words: tuple[str, ...], returncode: int, stderr: str, stdout: str = ""
) -> CommandError:
    lines = (stderr.strip() or stdout.strip() or "it said nothing").splitlines()
    message = f"{_short(words)} failed with exit code {returncode}: {lines[-1].strip()}"
    return CommandError(message, words, returncode, stderr)


def _short(argv: Sequence[str]) -> str:
    line = shlex.join(argv).replace("\n", " ")
    return line if len(line) <= 80 else f"{line[:77]}..."
