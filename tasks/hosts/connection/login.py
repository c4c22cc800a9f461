"""Log in to a host over SSH: check its key, run commands as root."""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from fabric import Connection
from fabric.connection import derive_shorthand
from invoke.exceptions import Exit
from paramiko import (
    AuthenticationException,
    BadHostKeyException,
    RejectPolicy,
    SSHException,
)

from deploys.errors import DeployError, Interrupted, PreflightError, UnreachableError
from deploys.session import NONSENSE, Observer, Session, Target
from deploys.session.lock import Lock
from deploys.session.root_shell import RootShell
from tasks.desk.shell import Wired, wired
from tasks.hosts.connection.openssh import Way

# By default paramiko waits for ever; an emulated guest under load needs some seconds.
_CONNECT_SECONDS = 15
_KEEPALIVE_SECONDS = 5
_SILENCE_SECONDS = 60

# paramiko logs, with a traceback, each error that it also raises.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


def _parts_of(_: Connection, words: str) -> dict[str, str | int | None]:
    """The parts of a host on the command line; Fabric's own ends in a traceback."""
    with contextlib.suppress(ValueError):
        parts: dict[str, str | int | None] = derive_shorthand(words)
        if parts["host"] and parts["port"] in (None, *range(1, 2**16)):
            return parts
    raise Exit(
        f"error: -H {shlex.quote(words)}: write USER@HOST:PORT; a port is 1 to 65535", code=1
    )


Connection.derive_shorthand = _parts_of


class Login:
    """A login to one host; the connection opens at first use.

    ``way`` is how OpenSSH would log in. Without one, ``known_hosts`` is a file of host keys that
    count, besides the user's own.
    """

    def __init__(
        self, connection: Connection, known_hosts: Path | None = None, way: Way | None = None
    ) -> None:
        self._connection = connection
        self._known_hosts = known_hosts
        self._way = way
        if way is not None:
            way.prepare(connection)
        self._proxy: Wired | None = None
        self._shell: RootShell | None = None
        self._lock: Lock | None = None
        self._abandoned = False

    @property
    def name(self) -> str:
        port = "" if self._connection.port == 22 else f":{self._connection.port}"
        return f"{self._connection.host}{port}"

    def connect(self) -> None:
        """Open the connection, and a root shell over it.

        Raises:
            UnreachableError: the host does not answer, or refuses the login.
            PreflightError: the host key is unknown or has changed, or the user is not root and
                cannot become root with sudo; or see ``locked``.
            Interrupted: ``abandon`` was called.
        """
        self._root_shell()

    def _root_shell(self) -> RootShell:
        if self._abandoned:
            raise Interrupted(f"{self.name}: interrupted")
        if self._shell is None or not self._shell.alive:
            self._open()
        assert self._shell is not None
        return self._shell

    def _open(self) -> None:
        client = self._connection.client
        if self._way is not None:
            self._way.trust(client, self._connection.connect_kwargs["key_filename"])
        else:
            client.load_system_host_keys()
            if self._known_hosts is not None:
                client.load_host_keys(str(self._known_hosts))
            client.set_missing_host_key_policy(RejectPolicy())
        self._connection.connect_timeout = self._connection.connect_timeout or _CONNECT_SECONDS
        # A new dictionary: Fabric's own belongs to the config that all hosts' threads share.
        self._connection.connect_kwargs = {
            "banner_timeout": _CONNECT_SECONDS,
            **self._connection.connect_kwargs,
        }
        with self._named_errors():
            with self._through_proxy():
                self._connection.open()
            transport = self._connection.transport
            # A host that reboots does not always close the connection: keepalive notices.
            transport.set_keepalive(_KEEPALIVE_SECONDS)
            if self._proxy is None and isinstance(transport.sock, socket.socket):
                tcp = partial(transport.sock.setsockopt, socket.IPPROTO_TCP)
                # Facts are small packets back and forth: do not wait until a packet is full.
                tcp(socket.TCP_NODELAY, 1)
                if sys.platform == "linux":  # macOS and BSD give up after minutes of their own
                    tcp(socket.TCP_USER_TIMEOUT, _SILENCE_SECONDS * 1000)
            shell = RootShell(client, self._connection.config.sudo.password)
            if self._lock is not None:
                self._lock.take(client, shell)
            self._shell = shell

    @contextlib.contextmanager
    def locked(self, task: str) -> Iterator[None]:
        """Keep all other operators from changing the host meanwhile, over reboots too.

        Raises:
            PreflightError: another operator changes it; the line says who, with what, since when.
            UnreachableError, Interrupted: see ``connect``.
        """
        with Lock(task) as self._lock:
            try:
                self.close()  # a shell that is open has no lock
                self.connect()
                yield
            finally:
                lock, self._lock = self._lock, None
                if self._shell is not None:
                    with contextlib.suppress(OSError, EOFError, SSHException):
                        lock.release(self._shell)

    @contextlib.contextmanager
    def _through_proxy(self) -> Iterator[None]:
        """Have the connection go over the proxy, if the host has one, while it opens."""
        if self._way is None or not self._way.proxy:
            yield
            return
        if self._proxy is not None:
            self._proxy.close()
        self._proxy = wired(self._way.proxy)
        self._connection.connect_kwargs["sock"] = self._proxy.socket
        try:
            yield
        except (AuthenticationException, BadHostKeyException):
            raise
        except (SSHException, OSError, EOFError) as error:
            if words := self._proxy.last_words():
                raise UnreachableError(f"{self.name}: on the way to it: {words}") from error
            raise

    def _keep_place(self) -> None:
        """Have the lock, if there is one, outlast the reboot that comes next."""
        if self._lock is not None:
            with self._named_errors():
                self._lock.keep_place(self._root_shell())

    def run(
        self,
        command: str,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> str:
        """Run a shell command line as root; return what it printed.

        ``stdin`` is its input. ``stdout`` gets what it prints, of any size, as it comes; then
        nothing is returned.

        Raises:
            DeployError: its exit code is not 0.
            UnreachableError, PreflightError: see ``connect``; or the connection broke.
            Interrupted: ``abandon`` was called.
        """
        shell = self._root_shell()
        with self._named_errors():
            answer = shell.run(command, stdin=stdin, stdout=stdout)
        if answer.code != 0:
            words = (answer.stderr.strip() or "no error message").splitlines()[-1]
            raise DeployError(f"{self.name}: {command}: exit code {answer.code}: {words}")
        return answer.stdout

    @contextlib.contextmanager
    def parsing(self, what: str) -> Iterator[None]:
        """What this host says of ``what`` is parsed in the block.

        Raises:
            DeployError: it makes no sense.
        """
        try:
            yield
        except (*NONSENSE, OSError) as error:  # fromtimestamp() raises OSError, too
            line = f"{self.name}: what it says of {what} makes no sense: {error}"
            raise DeployError(line) from error

    def session(self, observer: Observer | None = None) -> Session:
        """Start a pyinfra session over this connection."""
        return Session(Target(self.name, self._root_shell()), observer)

    def close(self) -> None:
        self._shell = None
        with contextlib.suppress(OSError, EOFError, SSHException):
            self._connection.close()
            self._connection.client.close()  # Fabric leaves one open that was not let in
        if self._proxy is not None:
            self._proxy.close()

    def abandon(self) -> None:
        """Close the connection from another thread, and refuse every further command."""
        self._abandoned = True
        self.close()

    @property
    def _known_name(self) -> str:
        """What known_hosts calls the host; see sshd(8)."""
        if self._way is not None:
            return self._way.known_as
        host, port = self._connection.host, self._connection.port
        return host if port == 22 else f"[{host}]:{port}"

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        name = self.name
        try:
            yield
        except PreflightError as error:
            raise PreflightError(f"{name}: {error}") from error
        except BadHostKeyException as error:
            raise PreflightError(
                f"{name}: its host key is not the known one; if the host was reinstalled, "
                f"remove the old key with ssh-keygen -R {shlex.quote(self._known_name)}"
            ) from error
        except AuthenticationException as error:
            raise UnreachableError(
                f"{name}: {self._connection.user} is not let in: try ssh, or name a key with -i"
            ) from error
        except SSHException as error:
            if "not found in known_hosts" in str(error):
                raise PreflightError(
                    f"{name}: its host key is unknown: log in once with ssh to confirm it"
                ) from error
            raise UnreachableError(f"{name}: {error}") from error
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error) or "the connection broke"
            raise UnreachableError(f"{name}: {why}") from error
