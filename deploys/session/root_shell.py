"""A shell of root at the other end of an SSH connection, in which commands are run.

To start a channel, sudo and a shell for each command is most of what reading a fact costs: here
that is paid once. sudo's password goes where sudo asks for it, on its standard input, and so is
never in an argument, an environment or a file; what is uploaded goes the same way, and so never
lies where another user of the host could change it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from paramiko import SSHClient, SSHException

from deploys.errors import PreflightError

# Of sudo's own deliberations; an emulated host under load needs some seconds.
_START_SECONDS = 60
_BLOCK = 2**15
# sshd's own exit code where PAM has not opened the session: a host that goes down opens none.
_NO_SESSION = 254

# Its arguments: what root's shell is to run, and the prompt by which sudo asks for a password.
_START = """
if [ "$(id -u)" = 0 ]; then exec sh -c "$1"; fi
exec sudo -H -S -p "$2" sh -c "$1"
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


class RootShell:
    """A running shell; ``close`` ends it, and so does the end of the connection."""

    def __init__(self, client: SSHClient, password: str | None = None) -> None:
        """Start it, through sudo where the user who is logged in is not root.

        Args:
            client: a connected client.
            password: sudo's, if it asks for one.

        Raises:
            PreflightError: the user may not become root; the line says why.
            SSHException: the connection broke, or sshd opened no session.
        """
        # No command prints it by chance.
        self._mark = secrets.token_hex(16)
        transport = client.get_transport()
        if transport is None:
            raise _broken()
        self._channel = transport.open_session()
        self._out, self._err = bytearray(), bytearray()
        # A thread for each stream: paramiko's file descriptor for both can miss a wake-up.
        self._blocks: queue.SimpleQueue[tuple[bytearray, bytes]] = queue.SimpleQueue()
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
        """Whether commands can be run in it still."""
        return not self._channel.closed

    def close(self) -> None:
        """End it; what runs in it is not waited for."""
        self._channel.close()

    def run(self, command: str, timeout: float | None = None, stdin: bytes | None = None) -> Answer:
        """Run a shell command line, of one line or several.

        Args:
            command: what ``sh -c`` is given.
            timeout: seconds that it may be silent; None is for ever.
            stdin: what it reads on its standard input, so that it is in no list of processes;
                not given: nothing.

        Raises:
            TimeoutError: it was silent for longer; the shell is closed.
            SSHException: the connection broke.
        """
        started = f"sh -c {shlex.quote(command)}"
        if stdin is None:
            self._send(f"{started} </dev/null\n{self._end}\n".encode())
            return self._answer(timeout)
        # What the command leaves unread is read for it: the shell would take it for commands.
        fed = f"head -c {len(stdin)} | {{ {started}; code=$?; cat >/dev/null; exit $code; }}"
        self._send(f"true; {self._end}; {fed}; {self._end}\n".encode())
        self._answer(None)
        self._send(stdin)
        return self._answer(timeout)

    def write(self, source: IO[bytes], path: str) -> Answer:
        """Write all of ``source`` to a file.

        Raises:
            SSHException: the connection broke.
        """
        # The shell may read ahead of what it runs, so nothing is sent before head reads. Where
        # head ends early the shell does too: it would take the rest for commands.
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        head = f"head -c {size} >{shlex.quote(path)} || {{ {self._end}; exit; }}"
        self._send(f"true; {self._end}; {head}; {self._end}\n".encode())
        self._answer(None)
        with contextlib.suppress(OSError):  # the answer says why
            while block := source.read(_BLOCK):
                self._channel.sendall(block)
        return self._answer(None)

    @property
    def _end(self) -> str:
        """Shell commands that say on both streams that a command has ended, and how."""
        return f"printf '\\n%s %d\\n' {self._mark} $?; printf '\\n%s\\n' {self._mark} >&2"

    def _become_root(self, password: str | None) -> None:
        ready = f"printf '%s\\n' {self._mark}; exec sh"
        self._channel.exec_command(shlex.join(("sh", "-c", _START, "root", ready, self._mark)))
        mark, asked = self._mark.encode(), 0
        while self._take(self._out, mark + b"\n") is None:
            try:
                self._receive(_START_SECONDS)
            except SSHException as error:
                code = self._channel.recv_exit_status()
                if code == -1:  # paramiko's word for none
                    raise
                if code == _NO_SESSION:
                    raise SSHException("no session was opened: it goes down or comes up") from error
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

    def _answer(self, timeout: float | None) -> Answer:
        """What a command printed, up to where ``_end`` says that it ended."""
        while (out := self._take(self._out, f"\n{self._mark} ".encode())) is None:
            self._receive(timeout)
        while (code := self._take(self._out, b"\n")) is None:
            self._receive(timeout)
        while (err := self._take(self._err, f"\n{self._mark}\n".encode())) is None:
            self._receive(timeout)
        return Answer(int(code), out.decode(errors="replace"), err.decode(errors="replace"))

    @staticmethod
    def _take(buffer: bytearray, end: bytes) -> bytes | None:
        """Take what is in ``buffer`` before ``end``, and that; None where it has not come yet."""
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
        """Take in what has come, after waiting until something did."""
        try:
            buffer, block = self._blocks.get(timeout=timeout if self._streams else 0)
        except queue.Empty:
            self._channel.close()
            if not self._streams:
                raise _broken() from None
            raise TimeoutError(f"it said nothing for {timeout:g} s") from None
        buffer += block
        if not block:
            self._streams -= 1


def _broken() -> SSHException:
    return SSHException("the connection broke")
