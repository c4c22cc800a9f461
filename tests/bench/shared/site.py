"""A gateway as a worker's tunnel sees it: an SSH server, and a queue behind it."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
import psycopg
from typing_extensions import override

from deploys.errors import BoxError
from kimpipeline.files import scratch
from tasks.desk import ssh_keys
from tests.pipeline.queue.server import PORT, Server


@dataclass(frozen=True)
class Site:
    """What a box keeps of it, by file, in /persistent/pipeline/ssh; its queue's database."""

    files: dict[str, str]
    queue: Server
    hang_up: Callable[[], None]
    """End all connections there are: those of a guest that was reset it cannot end itself."""

    def waiting(self) -> int:
        """How many workers wait for a job.

        Raises:
            BoxError: the queue is gone.
        """
        try:
            ((found,),) = self.queue.sql("select pipeline.overview() -> 'workers'")
        except psycopg.Error as error:
            raise BoxError(f"the bench's queue is gone: {error}") from error
        return int(found)


@contextlib.contextmanager
def site(host: str) -> Iterator[Site]:
    """A gateway that runs, at this machine's address ``host`` as a guest sees it."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-site-", dir="/var/tmp") as name,
        socket.create_server(("127.0.0.1", 0)) as listener,
        _queue() as queue,
    ):
        own, theirs = Path(name, "host_key"), Path(name, "id_ed25519")
        public, allowed = ssh_keys.make_key(own), ssh_keys.make_key(theirs)
        server = _Server(listener, own, allowed, queue)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        port = int(listener.getsockname()[1])
        files = {
            "id_ed25519": theirs.read_text(),
            "known_hosts": f"gateway {' '.join(public.split()[:2])}\n",
            "site": f"HostName {host}\nPort {port}\n",
        }
        try:
            yield Site(files, queue, server.hang_up)
        finally:
            server.close()


@contextlib.contextmanager
def _queue() -> Iterator[Server]:
    with scratch() as folder:
        made = Server(folder / "db", "-cfsync=off")
        made.start()
        try:
            yield made
        finally:
            made.stop()


class _Server:
    """Serves who comes, until it is closed."""

    def __init__(self, listener: socket.socket, key: Path, allowed: str, queue: Server) -> None:
        self._listener = listener
        self._key = paramiko.Ed25519Key.from_private_key_file(str(key))
        self._allowed = allowed.split()[1]
        self._queue = queue
        self._open: list[paramiko.Transport] = []

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                transport = paramiko.Transport(self._listener.accept()[0])
                transport.add_server_key(self._key)
                self._open.append(transport)
                # with an event it does not wait for who may never say a word
                asked = _Connection(transport, self._allowed, self._queue)
                transport.start_server(threading.Event(), asked)

    def hang_up(self) -> None:
        while self._open:
            self._open.pop().close()

    def close(self) -> None:
        self._listener.close()
        self.hang_up()


class _Connection(paramiko.ServerInterface):
    """Lets one key in, and joins who asks for the queue with the database."""

    def __init__(self, transport: paramiko.Transport, allowed: str, queue: Server) -> None:
        self._transport = transport
        self._allowed = allowed
        self._queue = queue

    @override
    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    @override
    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if key.get_base64() == self._allowed:
            return paramiko.common.AUTH_SUCCESSFUL
        return paramiko.common.AUTH_FAILED

    @override
    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    @override
    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if command != b"queue":
            return False
        threading.Thread(target=self._join, args=(channel,), daemon=True).start()
        return True

    def _join(self, channel: paramiko.Channel) -> None:
        """Join a channel with a connection to the queue: whose it is says the client, here."""
        with channel, socket.socket(socket.AF_UNIX) as far:
            far.connect(f"{self._queue.folder}/.s.PGSQL.{PORT}")
            threading.Thread(target=_pump, args=(far, channel), daemon=True).start()
            _pump(channel, far)


def _pump(
    source: paramiko.Channel | socket.socket, target: paramiko.Channel | socket.socket
) -> None:
    with contextlib.suppress(OSError, EOFError):
        while block := source.recv(2**15):
            target.sendall(block)
    # a close would wait for the other thread's recv
    with contextlib.suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_RDWR)
