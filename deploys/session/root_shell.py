"""Run commands in one root shell at the other end of an SSH connection.

To start a channel, sudo and a shell takes most of the time of a short command. Here they are
started once. sudo reads its password from standard input, so that it is in no argument, environment
or file. Uploads go through standard input too, so no other user of the host can change them on the
way.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import re
import secrets
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from paramiko import SSHClient, SSHException

from deploys.errors import PreflightError, plain

# How long sudo may take; an emulated host under load needs some seconds.
_START_SECONDS = 60
_BLOCK = 2**15
# Blocks that came and are not read yet: a host may send faster than a disk writes.
_MOST_WAITING = 256
_MOST_BYTES = 2**24  # of an answer; a box's manifest has some hundred kilobytes
# sshd's exit code if PAM opened no session, as on a host that is shutting down.
_NO_SESSION = 254

# The file that the shell holds is its own: what a command leaves running would hold it too.
_CHILD = "9<&- sh"

# All that the user's login shell reads: csh, fish and sh agree on these words alone.
_LOGIN = "exec sh"
# One line, so that this sh leaves what follows, sudo's password, to sudo.
_START = (
    'if [ "$(id -u)" = 0 ]; then exec sh -c {ready}; '
    "else exec sudo -H -S -p {mark} sh -c {ready}; fi"
)


@dataclass(frozen=True)
class Answer:
    """The exit code of a command, and what it printed."""

    code: int
    stdout: str
    stderr: str


class RootShell:
    """A running root shell. It ends when the connection ends."""

    def __init__(self, client: SSHClient, password: str | None = None) -> None:
        """Start the shell; through sudo, if the user who is logged in is not root.

        Args:
            client: a connected client.
            password: the password for sudo, if sudo asks for one.

        Raises:
            PreflightError: the user may not become root; the line says why.
            SSHException: the connection broke, or sshd opened no session.
        """
        # It is random, so that no command prints it by chance.
        self._mark = secrets.token_hex(16)
        transport = client.get_transport()
        if transport is None:
            raise _broken()
        self._channel = transport.open_session()
        self._out, self._err = bytearray(), bytearray()
        # A thread for each stream: paramiko's file descriptor for both can miss a wake-up.
        self._blocks: queue.Queue[tuple[bytearray, bytes]] = queue.Queue(_MOST_WAITING)
        self._streams = 2
        for recv, buffer in (
            (self._channel.recv, self._out),
            (self._channel.recv_stderr, self._err),
        ):
            threading.Thread(target=self._pump, args=(recv, buffer), daemon=True).start()
        try:
            self._become_root(password)
        except BaseException:
            self._channel.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the shell can still run commands."""
        return not self._channel.closed

    def run(
        self,
        command: str,
        timeout: float | None = None,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> Answer:
        """Run a shell command of one line or several.

        Args:
            command: the argument of ``sh -c``.
            timeout: seconds that the command may print nothing; None is for ever.
            stdin: the command's standard input, for what no list of processes may show; a file is
                sent whole, and the command prints little until then. None: it is empty.
            stdout: what the command prints is written here as it comes, and is not in the answer.

        Raises:
            TimeoutError: the command printed nothing for longer; the shell is closed.
            SSHException: the connection broke.
            Exception: whatever ``stdout`` raises when it is written; the shell is closed.
        """
        started = f"{_CHILD} -c {shlex.quote(command)}"
        if stdin is None:
            self._send(f"{started} </dev/null\n{self._end}\n".encode())
        else:
            source = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
            # cat reads what the command leaves unread, as the shell would take it for commands.
            fed = f"head -c {_size(source)} | {{ {started}; code=$?; cat >/dev/null; exit $code; }}"
            self._send(f"true; {self._end}; {fed}; {self._end}\n".encode())
            self._answer(None)
            self._send_all(source)
        if stdout is not None:
            self._copy(stdout, timeout)
        return self._answer(timeout)

    def hold(self, path: str, command: str) -> Answer:
        """Run a command that has the file ``path`` open as descriptor 9.

        If it succeeds, the shell has the file open until it ends or ``let_go`` is called; no other
        command has. Only root can read the file.

        Raises:
            SSHException: the connection broke.
        """
        file = shlex.quote(path)
        opened = f"(umask 077; : >>{file}); exec 9<>{file}"
        held = f"sh -c {shlex.quote(command)} </dev/null"
        self._send(
            f"{opened}; if {held}; then {self._end}; else {self._end}; exec 9<&-; fi\n".encode()
        )
        return self._answer(None)

    def let_go(self, timeout: float) -> None:
        """Close the file of ``hold``; wait so many seconds for the answer.

        Raises:
            TimeoutError: there is none; the shell is closed.
            SSHException: the connection broke.
        """
        self._send(f"exec 9<&-; {self._end}\n".encode())
        self._answer(timeout)

    def write(self, source: IO[bytes], path: str) -> Answer:
        """Write all of ``source`` to a file; if the connection breaks, there is no file.

        Raises:
            SSHException: the connection broke.
        """
        # The shell may read ahead, so nothing is sent before head runs. If head ends early, the
        # shell ends too, as it would take the rest for commands. Where the input ends before the
        # file does, head succeeds all the same.
        size = _size(source)
        file = shlex.quote(path)
        is_whole = f'head -c {size} >{file} && [ "$(wc -c <{file})" -eq {size} ]'
        head = f"{is_whole} || {{ rm -f {file}; false; {self._end}; exit; }}"
        self._send(f"true; {self._end}; {head}; {self._end}\n".encode())
        self._answer(None)
        with contextlib.suppress(SSHException):  # the answer has the reason
            self._send_all(source)
        return self._answer(None)

    @property
    def _end(self) -> str:
        """Shell commands that mark the end of a command on both streams, with its exit code."""
        return f"printf '\\n%s %d\\n' {self._mark} $?; printf '\\n%s\\n' {self._mark} >&2"

    def _become_root(self, password: str | None) -> None:
        # What is parsed is asked for in English, with a decimal point. LANGUAGE outranks C.UTF-8.
        ready = f"printf '%s\\n' {self._mark}; export LC_ALL=C.UTF-8 LANGUAGE=; exec sh"
        self._channel.exec_command(_LOGIN)
        start = _START.format(ready=shlex.quote(ready), mark=self._mark)
        with contextlib.suppress(OSError):  # a login shell that ended has said why
            self._channel.sendall(f"{start}\n".encode())
        mark, asked = self._mark.encode(), 0
        while self._take(self._out, mark + b"\n") is None:
            try:
                self._receive(_START_SECONDS)
            except SSHException as error:
                code = self._channel.recv_exit_status()
                if code == -1:  # paramiko got no exit code
                    raise
                if code == _NO_SESSION:
                    raise SSHException("sshd opened no session: it stops or starts") from error
                words = self._err.decode(errors="replace").replace(self._mark, "").split("\n")
                why = next((word.strip() for word in reversed(words) if word.strip()), "")
                raise PreflightError(
                    f"the user may not become root: {why or f'exit code {code}'}"
                ) from error
            if self._err.count(mark) > asked:
                asked += 1
                if password is None:
                    raise PreflightError(
                        "sudo asks for a password: give it with fab --prompt-for-sudo-password"
                    )
                if asked > 1:
                    raise PreflightError("sudo refuses the password given")
                self._send(f"{password}\n".encode())
        self._err.clear()

    def _send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError as error:
            raise _broken() from error

    def _send_all(self, source: IO[bytes]) -> None:
        while block := source.read(_BLOCK):
            self._send(block)

    def _copy(self, stdout: IO[bytes], timeout: float | None) -> None:
        """Write what a command prints to a file, up to the mark of ``_end``, which stays."""
        mark = f"\n{self._mark} ".encode()
        try:
            while (at := self._out.find(mark)) < 0:
                ready = max(0, len(self._out) - len(mark))  # the rest may begin the mark
                stdout.write(self._out[:ready])
                del self._out[:ready]
                self._receive(timeout)
            stdout.write(self._out[:at])
            del self._out[:at]
        except BaseException:  # the rest of it would be taken for the next answer
            self._channel.close()
            raise

    def _answer(self, timeout: float | None) -> Answer:
        """Read what a command prints, up to the marks of ``_end``."""
        while (out := self._take(self._out, f"\n{self._mark} ".encode())) is None:
            self._receive(timeout)
        while (code := self._take(self._out, b"\n")) is None:
            self._receive(timeout)
        while (err := self._take(self._err, f"\n{self._mark}\n".encode())) is None:
            self._receive(timeout)
        if not re.fullmatch(rb"[0-9]{1,3}", code):
            raise SSHException("it answers with no exit code")
        return Answer(int(code), *(plain(text.decode(errors="replace")) for text in (out, err)))

    @staticmethod
    def _take(buffer: bytearray, end: bytes) -> bytes | None:
        """Cut off what is before ``end``, and ``end``; None if ``end`` has not come yet."""
        at = buffer.find(end)
        if at < 0:
            return None
        taken = bytes(buffer[:at])
        del buffer[: at + len(end)]
        return taken

    def _pump(self, recv: Callable[[int], bytes], buffer: bytearray) -> None:
        while block := recv(_BLOCK):
            self._blocks.put((buffer, block))
        self._blocks.put((buffer, b""))

    def _receive(self, timeout: float | None) -> None:
        """Wait for the next block of output, and put it into its buffer."""
        try:
            buffer, block = self._blocks.get(timeout=timeout if self._streams else 0)
        except queue.Empty:
            self._channel.close()
            if not self._streams:
                raise _broken() from None
            raise TimeoutError(f"no output for {timeout:g} s") from None
        buffer += block
        if len(buffer) > _MOST_BYTES:
            self._channel.close()
            raise SSHException(f"it answers with more than {_MOST_BYTES // 2**20} MiB")
        if not block:
            self._streams -= 1


def _size(source: IO[bytes]) -> int:
    """How many bytes a file has; it is read from its start afterwards."""
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    return size


def _broken() -> SSHException:
    return SSHException("the connection broke")
