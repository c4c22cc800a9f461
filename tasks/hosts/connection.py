"""A host over SSH: connect with its key checked, run commands as root, reboot and come back."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fabric import Connection
from paramiko import (
    AuthenticationException,
    BadHostKeyException,
    Channel,
    RejectPolicy,
    SSHException,
)

from deploys.errors import DeployError, Interrupted, PreflightError, UnreachableError
from deploys.facts.state import HostState, State
from deploys.session import Observer, Session, Target
from deploys.session.root_shell import RootShell
from tasks.desk.awaiting import awaited

# paramiko waits for ever by default; an emulated guest under load needs some seconds.
_CONNECT_SECONDS = 15
_KEEPALIVE_SECONDS = 5
_SILENCE_SECONDS = 60
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"

# It logs, with a traceback, what it also raises.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class Host:
    """One host that Fabric is connected to, or will be at first use.

    ``known_hosts`` is the file its key is checked against, on top of the system's and user's.
    """

    def __init__(self, connection: Connection, known_hosts: Path | None = None) -> None:
        self._connection = connection
        self._known_hosts = known_hosts
        self._shell: RootShell | None = None
        self._abandoned = False

    @property
    def name(self) -> str:
        port = "" if self._connection.port == 22 else f":{self._connection.port}"
        return f"{self._connection.host}{port}"

    def connect(self) -> None:
        """Open the connection, and a root shell over it.

        Raises:
            UnreachableError: no answer, or a refused login.
            PreflightError: its host key is unknown or changed, or the user is neither root nor
                may become it with sudo.
            Interrupted: it was abandoned.
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
        client.load_system_host_keys()
        if self._known_hosts is not None:
            client.load_host_keys(str(self._known_hosts))
        client.set_missing_host_key_policy(RejectPolicy())
        self._connection.connect_timeout = self._connection.connect_timeout or _CONNECT_SECONDS
        # Of its own: what is set in Fabric's is set in the config of all hosts, whose threads find
        # it empty meanwhile.
        self._connection.connect_kwargs = {
            "banner_timeout": _CONNECT_SECONDS,
            **self._connection.connect_kwargs,
        }
        with self._named_errors():
            self._connection.open()
            transport = self._connection.transport
            # A host that reboots does not always say goodbye: else nobody would notice.
            transport.set_keepalive(_KEEPALIVE_SECONDS)
            if isinstance(transport.sock, socket.socket):
                tcp = partial(transport.sock.setsockopt, socket.IPPROTO_TCP)
                # Small packets back and forth are all that facts are: to fill them costs.
                tcp(socket.TCP_NODELAY, 1)
                tcp(socket.TCP_USER_TIMEOUT, _SILENCE_SECONDS * 1000)
            self._shell = RootShell(client, self._connection.config.sudo.password)

    def run(self, command: str, stdin: bytes | None = None) -> str:
        """Run a shell command line as root, with ``stdin`` to read; what it printed.

        Raises:
            DeployError: its exit code is not 0.
            UnreachableError, PreflightError: as ``connect``, or the connection broke.
            Interrupted: it was abandoned.
        """
        shell = self._root_shell()
        with self._named_errors():
            answer = shell.run(command, stdin=stdin)
        if answer.code != 0:
            words = (answer.stderr.strip() or "it said nothing").splitlines()[-1]
            raise DeployError(f"{self.name}: {command}: exit code {answer.code}: {words}")
        return answer.stdout

    def session(self, observer: Observer | None = None) -> Session:
        """A pass of deploys over this connection."""
        return Session(Target(self.name, self._root_shell()), observer)

    @contextlib.contextmanager
    def forwarded(self, port: int) -> Iterator[socket.socket]:
        """A socket that leads to a port of the host's own loopback.

        Raises:
            UnreachableError, PreflightError: as ``connect``, or nobody listens there.
        """
        self.connect()
        with self._named_errors():
            channel = self._connection.transport.open_channel(
                "direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=_CONNECT_SECONDS
            )
        near, far = socket.socketpair()
        near.settimeout(_SILENCE_SECONDS)
        threads = [
            threading.Thread(target=_copy_stream, args=ends, daemon=True)
            for ends in ((far, channel), (channel, far))
        ]
        for thread in threads:
            thread.start()
        try:
            yield near
        finally:
            near.close()
            channel.close()
            for thread in threads:
                thread.join(_CONNECT_SECONDS)
            far.close()

    def state(self) -> HostState:
        """What the host says of itself now."""
        with self.session() as session:
            return session.fact(State)

    def reboot(
        self,
        entry: str | None,
        deadline: float,
        settled: Callable[[HostState], bool] = lambda _: True,
    ) -> HostState:
        """Reboot, into one of GRUB's entries if given, and wait for it to be back.

        Args:
            entry: an id of GRUB's menu, for this one boot; None: what comes by default.
            deadline: seconds.
            settled: whether a state is one to wait no longer for, where there may be more boots.

        Raises:
            UnreachableError: it does not answer, with a new boot id and settled, by then.
        """
        before = self.run(_BOOT_ID).strip()
        if entry is not None:
            self.run(f"/usr/lib/resnap/next-boot {entry}")
        # The answer may be cut off by what was asked for.
        with contextlib.suppress(DeployError, UnreachableError):
            self.run("systemctl reboot")
        return self.wait_for_boot(before, deadline, settled)

    def wait_for_boot(
        self,
        before: str,
        deadline: float,
        settled: Callable[[HostState], bool] = lambda _: True,
    ) -> HostState:
        """Wait until it is back from a boot; ``before`` is the boot id that it had till then.

        Raises:
            UnreachableError: as ``reboot``, within ``deadline`` seconds.
        """
        states: list[HostState] = []

        def is_back() -> bool:
            if self._boot_id() in (None, before):
                return False
            # it may go down while it is asked
            with contextlib.suppress(DeployError, UnreachableError):
                states[:] = [self.state()]
                return settled(states[0])
            return False

        self.close()
        self._wait(is_back, deadline, "did not come back")
        return states[0]

    def wait(self, deadline: float) -> None:
        """Wait until a machine that was just powered on lets us in.

        Raises:
            UnreachableError: not within ``deadline`` seconds.
        """
        self._wait(lambda: self._boot_id() is not None, deadline, "did not come up")

    def close(self) -> None:
        self._shell = None
        with contextlib.suppress(OSError, EOFError, SSHException):
            self._connection.close()

    def abandon(self) -> None:
        """End what another thread is doing with this host: nothing more is asked of it."""
        self._abandoned = True
        self.close()

    def _boot_id(self) -> str | None:
        try:
            self.connect()
            return self.run(_BOOT_ID).strip()
        except (UnreachableError, DeployError):
            self.close()
            return None

    def _wait(self, condition: Callable[[], bool], deadline: float, fault: str) -> None:
        line = f"{self.name} {fault} within {deadline:g} s; look at its console"
        awaited(condition, deadline, 1, lambda: line)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        name = self.name
        try:
            yield
        except PreflightError as error:
            raise PreflightError(f"{name}: {error}") from error
        except BadHostKeyException as error:
            raise PreflightError(
                f"{name}: its host key is not the one that is known; if it was reinstalled, "
                f"remove the old one with ssh-keygen -R {self._connection.host}"
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


def _copy_stream(source: socket.socket | Channel, target: socket.socket | Channel) -> None:
    """All that comes from one end to the other, until either is closed."""
    with contextlib.suppress(OSError, EOFError, SSHException):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError, EOFError, SSHException):
        target.shutdown(socket.SHUT_RDWR)
