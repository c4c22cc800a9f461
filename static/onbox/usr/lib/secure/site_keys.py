"""Has a gateway know this box by a key of its own, by its owner's username and password.

The password is only in this process's memory and in the encrypted connection to the gateway.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko import AuthenticationException, SSHException

HAND_IN = "hand-in"  # what an owner's key asks a gateway for to make a box
QUEUE = "queue"  # what a key asks a gateway for to speak with its database
# The first message of PostgreSQL's protocol; the gateway says who it is from. "R" is a good answer.
_HELLO = struct.pack("!II", 21, 3 << 16) + b"user\0secure\0\0"
_SECONDS = 20.0
_HANDED_IN = 90.0  # seconds that a gateway may take to make a box
_LARGEST = 16384  # bytes of a key file
_BOX = re.compile(r"[a-z0-9_-]{1,32}\.[a-z0-9-]{1,30}")
_HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:]{2,45}\]?")

# paramiko logs, with a traceback, the errors that it also raises.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class RefusedError(Exception):
    """Why secure refuses, and what to do, in one line."""


@dataclass(frozen=True)
class Site:
    """The host name and port of a gateway."""

    host: str
    port: int = 22

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read ``gateway.example.org`` or ``gateway.example.org:2222``.

        Raises:
            RefusedError: the text has another form.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or (":" in host and not host.endswith("]")):  # no port, or an address of IPv6
            host, port = text.strip(), "22"
        if not _HOST.fullmatch(host) or not port.isascii() or not port.isdigit():
            raise RefusedError(f"{text!r} is no site: write HOST or HOST:PORT")
        if not 0 < int(port) < 65536:
            raise RefusedError(f"{text!r} is no site: there is no port {port}")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return self.host if self.port == 22 else f"{self.host}:{self.port}"


def host_key(site: Site) -> paramiko.PKey:
    """The host key that a gateway shows.

    Raises:
        RefusedError: the gateway does not answer.
    """
    with _connected(site) as transport:
        return transport.get_remote_server_key()


def fingerprint(key: paramiko.PKey) -> str:
    """A key's fingerprint in OpenSSH's form, for people to compare."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def hand_in(site: Site, known: paramiko.PKey, username: str, password: str) -> bytes:
    """Make a key for this box, hand it in for its owner, and try it; the private key.

    Args:
        site: the gateway.
        known: its host key; no other host gets the password.
        username: the owner's name.
        password: the owner's password.

    Raises:
        RefusedError: the host key is another one, the gateway refuses the login, or the key
            does not work.
    """
    with _connected(site, known) as transport:
        try:
            transport.auth_password(username, password, fallback=False)
        except AuthenticationException as error:
            raise RefusedError(
                f"{site} does not let {username} in: the username or the password is wrong"
            ) from error
        sftp = transport.open_sftp_client()
        if sftp is None:
            raise RefusedError(f"{site} gives no files to {username}")
        sftp.get_channel().settimeout(_SECONDS)  # type: ignore[union-attr]
        with sftp.open("id_ed25519") as file:
            owners = file.read(_LARGEST)
    content = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    key = _read(site, content)
    with _session(site, known, _read(site, owners)) as channel:
        channel.exec_command(HAND_IN)
        channel.sendall(f"{key.get_name()} {key.get_base64()} {socket.gethostname()}\n".encode())
        channel.shutdown_write()
        channel.settimeout(_HANDED_IN)
        answer = b""
        while len(answer) < _LARGEST and (block := channel.recv(_LARGEST)):
            answer += block
    line = " ".join(answer.decode(errors="replace").split())[-300:]
    if not _BOX.fullmatch(line.rpartition(" ")[2]):
        why = "".join(each if each.isprintable() else "?" for each in line)
        raise RefusedError(
            f"{site} does not take the key of this box: {why or 'it is of an older version'}"
        )
    _try(site, known, key)
    return content


def _read(site: Site, content: bytes) -> paramiko.PKey:
    try:
        return paramiko.Ed25519Key.from_private_key(io.StringIO(content.decode()))
    except (SSHException, ValueError) as error:
        raise RefusedError(f"{site} gave a file that is not a key") from error


def _try(site: Site, known: paramiko.PKey, key: paramiko.PKey) -> None:
    with _session(site, known, key) as channel:
        channel.exec_command(QUEUE)
        channel.sendall(_HELLO)
        if channel.recv(1) != b"R":
            raise RefusedError(f"the queue of {site} does not answer: try again later")


@contextlib.contextmanager
def _session(site: Site, known: paramiko.PKey, key: paramiko.PKey) -> Iterator[paramiko.Channel]:
    with _connected(site, known) as transport:
        try:
            transport.auth_publickey("pipeline", key)
        except AuthenticationException as error:
            raise RefusedError(f"{site} does not let a key in that it has: try again") from error
        with transport.open_session(timeout=_SECONDS) as channel:
            channel.settimeout(_SECONDS)
            yield channel


@contextlib.contextmanager
def _connected(site: Site, known: paramiko.PKey | None = None) -> Iterator[paramiko.Transport]:
    """A connection before any login. Each fault in it becomes a RefusedError of one line."""
    try:
        with (
            socket.create_connection((site.host, site.port), timeout=_SECONDS) as sock,
            contextlib.closing(paramiko.Transport(sock)) as transport,
        ):
            transport.get_security_options().key_types = ("ssh-ed25519",)
            transport.banner_timeout = transport.auth_timeout = _SECONDS
            transport.start_client(timeout=_SECONDS)
            if known is not None and transport.get_remote_server_key() != known:
                raise RefusedError(f"{site} has another host key than a moment ago")
            yield transport
    except (OSError, EOFError, SSHException) as error:
        why = getattr(error, "strerror", None) or str(error) or "the connection broke"
        raise RefusedError(f"{site} cannot be reached: {why}") from error
