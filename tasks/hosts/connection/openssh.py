"""How OpenSSH would log in to a host: it is asked, and its answer is followed.

``ssh -G`` knows all of ssh_config(5). Fabric's own parser knows less of it, and fails at some
lines: so it is given none of the files.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import pwd
import re
import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import fabric
from paramiko import PKey, RejectPolicy, SSHClient
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import UnknownKeyType

from deploys.errors import PreflightError
from tasks.desk import shell

ANY = {"user": "", "port": 0}
"""Fabric's configuration in which -H alone says who logs in, and where; else OpenSSH does."""

fabric.Config._load_ssh_files = lambda _self: None

# paramiko asks each key for its certificate. The agent's key is its own, also where paramiko does
# not know the type: a certificate, or a key on a FIDO token.
AgentKey.public_blob = None

# As OpenSSH's own valid_hostname and valid_ruser: a ProxyCommand gives the words to a shell.
_WORD = re.compile(r"(?!-)[^\s'\"`$\\;&<>|(){}\x00-\x20\x7f]+")


@dataclass(frozen=True)
class Way:
    """How OpenSSH would log in to a host.

    Attributes:
        timeout: seconds until the host must have answered; None: OpenSSH has no such limit.
        identities: files of private keys; of some only the public key may be there.
        only_identities: the agent's other keys are not tried.
        agent: the agent's socket; empty: there is none.
        known_as: what the files of known hosts call the host.
        known_hosts: these files.
        proxy: the command whose input and output are the connection; empty: a TCP connection.
    """

    host: str
    port: int
    user: str
    timeout: int | None
    identities: tuple[Path, ...]
    only_identities: bool
    agent: str
    known_as: str
    known_hosts: tuple[Path, ...]
    proxy: tuple[str, ...]

    def prepare(self, connection: fabric.Connection) -> None:
        """Have a connection that is not open go this way; only a known host key is accepted."""
        connection.host, connection.port, connection.user = self.host, self.port, self.user
        # A new dictionary: Fabric's own belongs to the config that all hosts' threads share.
        connect = dict(connection.connect_kwargs)
        named = connect.get("key_filename") or []
        named = [named] if isinstance(named, str) else [*named]
        files = [*named, *map(str, filter(_is_readable, self.identities))]
        connect["key_filename"] = list(dict.fromkeys(files))  # a server counts what is tried
        connect["look_for_keys"] = False  # OpenSSH has named them
        connection.connect_timeout = connect.pop("timeout", None) or self.timeout
        connection.connect_kwargs = connect

    def trust(self, client: SSHClient, named: Iterable[str] = ()) -> None:
        """Before each login: give a client the known host keys, and the agent's keys in turn.

        ``named`` are files of keys that the user named.
        """
        client.set_missing_host_key_policy(RejectPolicy())
        # paramiko's name for it: it knows no alias
        name = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
        for key in reversed(self._known_keys):  # of two keys of one type the first counts
            client.get_host_keys().add(name, key.get_name(), key)
        only = [*named, *map(str, self.identities)] if self.only_identities else None
        if client._agent is not None:  # type: ignore[attr-defined]
            client._agent.close()  # type: ignore[attr-defined]
        client._agent = _Agent(self.agent, only)  # type: ignore[attr-defined]

    @cached_property
    def _known_keys(self) -> list[PKey]:
        found, revoked = [], set()
        for file in self.known_hosts:
            if not file.is_file():
                continue
            said = shell.run(["ssh-keygen", "-F", self.known_as, "-f", file], check=False).stdout
            for line in said.splitlines():
                mark, key = _known_key(line)
                if key is not None and mark == "@revoked":
                    revoked.add(key.asbytes())
                elif key is not None and not mark:
                    found.append(key)
        return [key for key in found if key.asbytes() not in revoked]


def way(connection: fabric.Connection) -> Way:
    """Ask OpenSSH how it would log in to the host of a connection.

    Raises:
        PreflightError: the name of the host or the user is none, or OpenSSH's configuration has an
            error; the line says which.
    """
    config = connection.config.ssh_config_path or connection.config._runtime_ssh_path or ""
    return _ask_ssh(connection.original_host, connection.user or "", connection.port or 0, config)


@cache
def _ask_ssh(name: str, user: str, port: int, config: str) -> Way:
    for word, what in ((name, "host"), (user, "user")):
        if word and not _WORD.fullmatch(word):
            raise PreflightError(f"{word!r} is no name of a {what}")
    options = ["-F", str(Path(config).expanduser())] if config else []
    said = shell.run(
        [
            *("ssh", "-G", "-T", *options),
            *(("-l", user) if user else ()),
            *(("-p", str(port)) if port else ()),
            *("--", name),
        ],
        check=False,
    )
    if said.returncode != 0:
        lines = said.stderr.strip().splitlines() or ["it said nothing"]
        raise PreflightError(f"{name}: ssh -G: {'; '.join(line.strip() for line in lines)}")
    answers = defaultdict[str, list[str]](list)
    for line in said.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        answers[keyword].append(value)
    return _way(name, answers, options)


def _way(name: str, answers: Mapping[str, list[str]], options: list[str]) -> Way:
    def one(keyword: str) -> str:
        value = answers[keyword][0] if keyword in answers else ""
        return "" if value == "none" else value

    host, port, user, alias = one("hostname"), one("port"), one("user"), one("hostkeyalias")
    jump, me, here = one("proxyjump"), pwd.getpwuid(os.getuid()), socket.gethostname()
    tokens = {
        "%": "%",
        "L": here.partition(".")[0],
        "d": me.pw_dir,
        "h": host,
        "i": str(me.pw_uid),
        "j": jump,
        "k": alias or name,
        "l": here,
        "n": name,
        "p": port,
        "r": user,
        "u": me.pw_name,
    }
    known = f"{one('userknownhostsfile')} {one('globalknownhostsfile')}".split()
    timeout = one("connecttimeout")
    agent = answers["identityagent"][0] if "identityagent" in answers else "SSH_AUTH_SOCK"
    if variable := re.fullmatch(r"\$(\w+)|SSH_AUTH_SOCK", agent):
        agent = os.environ.get(variable[1] or agent, "")
    proxy: tuple[str, ...] = ()
    if jump:
        proxy = _through(jump, host, port, options)
    elif command := one("proxycommand"):
        # As OpenSSH does it: by the user's shell.
        proxy = (os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {_filled(command, tokens)}")
    return Way(
        host=host,
        port=int(port),
        user=user,
        timeout=int(timeout) if timeout else None,
        identities=tuple(
            _path(file, tokens, me.pw_dir) for file in answers["identityfile"] if file != "none"
        ),
        only_identities=one("identitiesonly") == "yes",
        agent=str(_path(agent, tokens, me.pw_dir)) if agent not in ("", "none") else "",
        known_as=alias or (host if port == "22" else f"[{host}]:{port}"),
        known_hosts=tuple(_path(file, tokens, me.pw_dir) for file in known if file != "none"),
        proxy=proxy,
    )


def _through(jump: str, host: str, port: str, options: list[str]) -> tuple[str, ...]:
    """The command that OpenSSH itself would start for ProxyJump; it asks nothing."""
    before, _, last = jump.rpartition(",")
    return (
        *("ssh", *options, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
        *("-W", f"[{host}]:{port}", *(("-J", before) if before else ())),
        *("--", last if "://" in last else f"ssh://{last}"),
    )


def _filled(text: str, tokens: Mapping[str, str]) -> str:
    """Fill in the tokens of ssh_config(5)."""
    return re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _path(name: str, tokens: Mapping[str, str], home: str) -> Path:
    name = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), name)
    # OpenSSH takes the home folder from the user database.
    return Path(re.sub(r"^~(?=/)", home, _filled(name, tokens))).expanduser()


def _is_readable(identity: Path) -> bool:
    """Whether paramiko can use a private key. One on a token it uses by the agent alone."""
    on_token = (kind.startswith("sk-") for kind, _ in _public(identity))
    return identity.is_file() and not any(on_token)


def _public(identity: Path) -> Iterator[tuple[str, bytes]]:
    """The public keys, of which the last may be a certificate, that lie beside a private key."""
    for file in (identity, Path(f"{identity}.pub"), Path(f"{identity}-cert.pub")):
        with contextlib.suppress(OSError, ValueError):  # none there, or no text
            kind, encoded, *_ = file.read_text().split(maxsplit=2)
            yield kind, base64.b64decode(encoded, validate=True)


def _known_key(line: str) -> tuple[str, PKey | None]:
    """The mark and the key of a line of known_hosts, see sshd(8); no key if it has none."""
    words = line.split()
    mark = words.pop(0) if line.startswith("@") else ""
    if line.startswith("#") or len(words) < 3:
        return mark, None
    try:
        key: PKey = PKey.from_type_string(words[1], base64.b64decode(words[2]))
    except (UnknownKeyType, binascii.Error):
        return mark, None
    return mark, key


class _Agent(AgentSSH):
    """An agent at a socket; keys on a token come last, as they want a finger.

    ``only`` are the files of private keys whose public keys count; None: all of the agent's do.
    """

    def __init__(self, path: str, only: list[str] | None) -> None:
        super().__init__()
        self._path = path
        self._only = only

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]

    def get_keys(self) -> tuple[AgentKey, ...]:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return ()
        self._connect(connection)  # type: ignore[attr-defined]
        keys = super().get_keys()
        for key in keys:
            if key.get_name().endswith("-cert-v01@openssh.com"):
                # What paramiko reads of a certificate is the key without it.
                key.inner_key = None  # type: ignore[attr-defined]
        if self._only is not None:
            allowed = {blob for file in self._only for _, blob in _public(Path(file))}
            keys = tuple(key for key in keys if key.blob in allowed)
        return tuple(sorted(keys, key=lambda key: key.get_name().startswith("sk-")))
