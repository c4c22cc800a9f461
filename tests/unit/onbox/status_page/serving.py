"""The status page's server as a process, on a socket that it is given as systemd gives it one."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.onbox.status_page.statusbox import HOME

# The socket as the first that a process is given; see sd_listen_fds(3).
_AS_SYSTEMD = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


@dataclass(frozen=True)
class Running:
    """A server's process, and where it can be asked."""

    process: subprocess.Popen[bytes]
    port: int
    status: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, request: bytes) -> bytes:
        """All that is answered to some bytes, until the end."""
        with self.connect() as connection:
            connection.sendall(request)
            return rest(connection)

    def ask(self, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()


def rest(connection: socket.socket) -> bytes:
    """What still comes, until the end."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:  # it left what it had not read; what it said came before
        pass
    return found


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Running]:
    """A server of the box whose root is ``root``; at the end it must not have said a word."""
    status = root / "run/pipeline/status.json"
    status.parent.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        listener.setblocking(False)
        number = listener.fileno()
        port = listener.getsockname()[1]
        words = [sys.executable, "-I", "-S", "-B", str(HOME / "serve.py")]
        process = subprocess.Popen(
            [sys.executable, "-c", _AS_SYSTEMD, str(number), *words],
            pass_fds=[number],
            env={**os.environ, "PIPELINE_ROOT": str(root)},
            stderr=subprocess.PIPE,
        )
    try:
        yield Running(process, port, status)
    finally:
        process.kill()
        _, said = process.communicate()
    assert said == b""  # no stranger writes into the journal
