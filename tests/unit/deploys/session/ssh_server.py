"""An SSH server in this process, on a socket pair: commands run on this machine.

The protocol is paramiko's own, at both ends; only network, login and sudo are stood in for.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import paramiko
from typing_extensions import override

_KEY = paramiko.ECDSAKey.generate()


class _Server(paramiko.ServerInterface):
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self.commands: list[str] = []

    @override
    def get_allowed_auths(self, username: str) -> str:
        return "password"

    @override
    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    @override
    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    @override
    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command.decode())
        threading.Thread(target=self._serve, args=(channel, command), daemon=True).start()
        return True

    def _serve(self, channel: paramiko.Channel, command: bytes) -> None:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            ["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, env=self._env
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        pumps = [
            threading.Thread(target=_pump, args=(process.stdout, channel.sendall), daemon=True),
            threading.Thread(
                target=_pump, args=(process.stderr, channel.sendall_stderr), daemon=True
            ),
        ]
        feed = threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True)
        for thread in (*pumps, feed):
            thread.start()
        for thread in pumps:
            thread.join()
        with contextlib.suppress(OSError, EOFError):
            code = process.wait()
            channel.send_exit_status(code if code >= 0 else 128 - code)  # as a shell says it
        channel.close()
        feed.join()


Answers = Callable[[bytes], tuple[int, bytes]]


class _Talker(_Server):
    """Runs nothing: ``answers`` says of each command its exit code, and what both streams say."""

    def __init__(self, answers: Answers) -> None:
        super().__init__({})
        self._answers = answers

    @override
    def _serve(self, channel: paramiko.Channel, command: bytes) -> None:
        start = b""
        while not start.endswith(b"\n") and (more := channel.recv(2**15)):
            start += more
        mark = re.search(rb"[0-9a-f]{32}", start)
        if mark is None:
            return  # no root shell
        end = b"%s %d\\n' " + mark[0]
        _, said = self._answers(b"")
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(said + mark[0] + b"\n")
            heard = b""
            while block := channel.recv(2**15):
                heard += block
                while end in heard and heard.endswith(b"\n"):
                    is_choice = b"; then printf" in heard  # one of two ends is run
                    words, _, heard = heard.rpartition(end) if is_choice else heard.partition(end)
                    code, said = self._answers(words)
                    channel.sendall_stderr(said + b"\n" + mark[0] + b"\n")
                    channel.sendall(said + b"\n" + mark[0] + b" %d\n" % code)


def _pump(stream: IO[bytes], send: Any) -> None:
    with contextlib.suppress(OSError):
        while block := os.read(stream.fileno(), 2**15):
            send(block)
    stream.close()


def _feed(channel: paramiko.Channel, stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError), stream:
        while block := channel.recv(2**15):
            stream.write(block)
            stream.flush()


@contextlib.contextmanager
def served(
    env: Mapping[str, str] | None = None, answers: Answers | None = None
) -> Iterator[tuple[paramiko.SSHClient, list[str]]]:
    """A client that is logged in, and the list of the commands that it has run.

    Commands run with the environment ``env``; or none is run, and ``answers`` answers.
    """
    ours, theirs = socket.socketpair()
    server = _Talker(answers) if answers else _Server(env or os.environ)
    far = paramiko.Transport(theirs)
    far.add_server_key(_KEY)
    far.start_server(threading.Event(), server)  # with an event it does not wait
    client = paramiko.SSHClient()
    client.get_host_keys().add("far", _KEY.get_name(), _KEY)
    try:
        client.connect(
            "far",
            username="user",
            password="of the connection",
            sock=ours,
            allow_agent=False,
            look_for_keys=False,
        )
        yield client, server.commands
    finally:
        client.close()
        far.close()


def not_root(folder: Path, sudo: str) -> dict[str, str]:
    """An environment in which ``id`` says that the user is not root, and ``sudo`` is a script."""
    folder.mkdir(exist_ok=True)
    for name, text in (("id", "echo 1000"), ("sudo", sudo)):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
