"""Logins as ssh(1) would make them: what ssh_config says, the agent's keys, known host keys, jumps.

The servers are paramiko's, on the loopback interface; ssh, ssh-agent and ssh-keygen are real.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fabric
import paramiko
import pytest
from typing_extensions import override

from deploys.errors import BoxError, PreflightError, UnreachableError
from tasks.desk import shell
from tasks.hosts.connection import Host
from tasks.hosts.connection.openssh import ANY, Way, way
from tests.unit.deploys.session.ssh_server import _Server

pytestmark = pytest.mark.commands

ROOT = Path(__file__).parents[4]
HOST_KEY = paramiko.ECDSAKey.generate()
OTHER_KEY = paramiko.ECDSAKey.generate()


class Sshd(_Server):
    """Lets in who signs with one key, runs commands on this machine, and forwards to anywhere."""

    def __init__(self, allowed: str) -> None:
        super().__init__(os.environ)
        self.allowed = allowed.split()[1]
        self.seen: list[str] = []
        self.certificates = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @override
    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    @override
    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.seen.append(key.get_base64())
        self.certificates += bool(key.public_blob)
        fits = key.get_base64() == self.allowed
        return paramiko.common.AUTH_SUCCESSFUL if fits else paramiko.common.AUTH_FAILED

    @override
    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self._goals = {**getattr(self, "_goals", {}), chanid: destination}
        return paramiko.common.OPEN_SUCCEEDED

    def close(self) -> None:
        self._listener.close()
        for transport in self._transports:
            transport.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                transport = paramiko.Transport(client)
                transport.add_server_key(HOST_KEY)
                self._transports.append(transport)
                transport.start_server(threading.Event(), self)
                threading.Thread(target=self._forward, args=(transport,), daemon=True).start()

    def _forward(self, transport: paramiko.Transport) -> None:
        while transport.is_alive() or not transport.initial_kex_done:
            channel = transport.accept(1)
            if channel is not None and (goal := getattr(self, "_goals", {}).get(channel.chanid)):
                far = socket.create_connection(goal)
                for ends in ((channel, far), (far, channel)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(2**15):
            target.sendall(data)
    with contextlib.suppress(OSError, EOFError):
        target.close()


def keygen(*words: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


class Desk:
    """A user's keys, ssh_config and files of known hosts, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = folder / "known"
        self.config = folder / "config"
        self.key = self.new_key("right")
        self.known.touch()

    def new_key(self, name: str) -> Path:
        keygen("-t", "ed25519", "-N", "", "-C", name, "-f", self.folder / name)
        return self.folder / name

    def host(self, word: str, text: str, user: str = "", port: int = 0, key: str = "") -> Host:
        """What ``fab -H word`` makes of it, with this ssh_config."""
        connection = self.connection(word, text, user, port, key)
        return Host(connection, way=way(connection))

    def connection(
        self, word: str, text: str, user: str = "", port: int = 0, key: str = ""
    ) -> fabric.Connection:
        self.config.write_text(text)
        kwargs = {"connect_kwargs": {"key_filename": [key]}} if key else {}
        config = fabric.Config(runtime_ssh_path=str(self.config), overrides={**ANY, **kwargs})
        # OpenSSH is asked once for a host: a test asks anew.
        way.__globals__["_ask_ssh"].cache_clear()
        return fabric.Connection(word, user=user or None, port=port or None, config=config)

    def trust(self, name: str, file: Path | None = None, key: paramiko.PKey = HOST_KEY) -> None:
        with (file or self.known).open("a") as known:
            known.write(f"{name} {key.get_name()} {key.get_base64()}\n")

    def entry(self, port: int, *lines: str) -> str:
        mine = ("HostName 127.0.0.1", f"Port {port}", f"UserKnownHostsFile {self.known}")
        return "\n  ".join(("Host box", *lines, *mine, f"GlobalKnownHostsFile {self.known}2"))


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def sshd(desk: Desk) -> Iterator[Sshd]:
    server = Sshd(desk.key.with_suffix(".pub").read_text())
    yield server
    server.close()


@pytest.fixture
def known(desk: Desk, sshd: Sshd) -> Iterator[Desk]:
    desk.known.write_text("")
    desk.trust(f"[127.0.0.1]:{sshd.port}")
    yield desk
    desk.known.write_text("")


def says(host: Host) -> str:
    """What a command says over the connection; it is closed then."""
    with contextlib.closing(host):
        return host.run("echo here")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real ssh-agent."""
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    while not Path(path).exists():
        process.poll()
        assert process.returncode is None
    yield
    process.terminate()
    process.wait()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_in_the_agent_keeps_nobody_out(
    known: Desk, sshd: Sshd, tmp_path: Path, kind: str
) -> None:
    keygen("-t", "ed25519", "-N", "", "-f", tmp_path / "ca")
    size = ("-b", "2048") if kind == "rsa" else ()
    keygen("-t", kind, *size, "-N", "", "-f", tmp_path / "first")
    keygen("-s", tmp_path / "ca", "-I", "ada", "-n", "root", tmp_path / "first.pub")
    for key in (tmp_path / "first", known.key):
        subprocess.run(["ssh-add", "-q", key], check=True)
    before = sshd.certificates
    entry = known.entry(sshd.port, f"IdentityFile {tmp_path}/no")
    assert says(known.host("box", entry)) == "here\n"
    assert sshd.certificates == before + 1  # it was offered, and refused


def _fake_agent(path: str, keys: list[bytes], sign: Callable[[bytes], bytes]) -> None:
    """Answers as draft-miller-ssh-agent has it; whoever wants a signature gets that of ``sign``."""

    def string(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    def serve(client: socket.socket) -> None:
        with client:
            while head := client.recv(4, socket.MSG_WAITALL):
                body = client.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
                if body[0] == 11:
                    answer = b"\x0c" + struct.pack(">I", len(keys))
                    answer += b"".join(string(key) + string(b"a key") for key in keys)
                else:
                    length = struct.unpack(">I", body[1:5])[0]
                    key, rest = body[5 : 5 + length], body[5 + length :]
                    data = rest[4 : 4 + struct.unpack(">I", rest[:4])[0]]
                    answer = b"\x05" if key != keys[-1] else b"\x0e" + string(sign(data))
                client.sendall(string(answer))

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def test_a_key_on_a_token_is_tried_last(
    known: Desk, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wants a finger for each signature, and nobody is there: this one signs nothing."""
    key = paramiko.Ed25519Key.from_private_key_file(str(known.key))
    token = paramiko.Message()
    for part in (b"sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:"):
        token.add_string(part)
    _fake_agent(
        str(tmp_path / "agent"),
        [token.asbytes(), key.asbytes()],
        lambda data: key.sign_ssh_data(data).asbytes(),
    )
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    entry = known.entry(sshd.port, f"IdentityFile {tmp_path}/no")
    assert says(known.host("box", entry)) == "here\n"
    # alone it is one line, not a traceback
    _fake_agent(str(tmp_path / "token"), [token.asbytes(), b""], lambda _: b"")
    for line in (f"IdentityAgent {tmp_path}/token", "IdentityAgent none"):
        with pytest.raises(BoxError, match=r"^127\.0\.0\.1:"):
            says(known.host("box", known.entry(sshd.port, f"IdentityFile {tmp_path}/no", line)))


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("suffix", ["", ".pub"])
def test_identities_only_leaves_the_agents_other_keys_alone(
    known: Desk, sshd: Sshd, suffix: str
) -> None:
    other = known.folder / "other"
    if not other.exists():
        known.new_key("other")
    for key in (other, known.key):
        subprocess.run(["ssh-add", "-q", key], check=True)
    gone = known.folder / "gone"
    shutil.copy(f"{known.key}.pub", f"{gone}.pub")  # its private key is in the agent alone
    sshd.seen.clear()
    entry = known.entry(sshd.port, f"IdentityFile {gone}{suffix}", "IdentitiesOnly yes")
    assert says(known.host("box", entry)) == "here\n"
    assert len({*sshd.seen}) == 1


def answers(found: Way) -> dict[str, object]:
    return {name: getattr(found, name) for name in Way.__annotations__}


@pytest.mark.parametrize(
    ("word", "lines", "given", "expected"),
    [
        ("a", "Include {folder}/more\n", {}, {"host": "10.9.8.7", "user": "included"}),
        ("a", "Match host=a\n  Port 77\n", {}, {"host": "a", "port": 77}),
        ("b", "Match host=a\n  Port 77\n", {}, {"port": 22}),
        ("a", "Match user=eve\n  Port 77\n", {"user": "eve"}, {"user": "eve", "port": 77}),
        ("a", "User eve\nPort 77\n", {"user": "bob", "port": 22}, {"user": "bob", "port": 22}),
        ("bob@a:22", "User eve\nPort 77\n", {}, {"user": "bob", "port": 22, "host": "a"}),
        ("a", "ConnectTimeout 9\n", {}, {"timeout": 9}),
        ("a", "", {}, {"timeout": None, "proxy": (), "known_as": "a"}),
        ("a", "IdentitiesOnly yes\n", {}, {"only_identities": True}),
        ("a", "IdentityAgent /run/%n\n", {}, {"agent": "/run/a"}),
        ("a", "IdentityAgent $DISPLAY\n", {}, {"agent": "/run/x"}),
        ("a", "IdentityFile {folder}/%n%%%p\nPort 7\n", {}, {"identities": ("a%7",)}),
        ("a", "Port 7\n", {}, {"known_as": "[a]:7"}),
        ("a", "Port 7\nHostKeyAlias c\n", {}, {"known_as": "c"}),
        ("a", "UserKnownHostsFile /x\nGlobalKnownHostsFile /y\n", {}, {"known_hosts": ("x", "y")}),
        ("a", "UserKnownHostsFile none\nGlobalKnownHostsFile /y\n", {}, {"known_hosts": ("y",)}),
    ],
)
def test_ssh_config_is_followed(
    desk: Desk,
    word: str,
    lines: str,
    given: dict[str, str | int],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISPLAY", "/run/x")
    (desk.folder / "more").write_text("Host a\n  User included\n  HostName 10.9.8.7\n")
    made = desk.connection(word, lines.format(folder=desk.folder), **given)  # type: ignore[arg-type]
    found = answers(way(made))
    for name in ("known_hosts", "identities"):
        found[name] = tuple(file.name for file in found[name])  # type: ignore[attr-defined]
    assert {name: found[name] for name in expected} == expected


def test_a_proxy_is_what_openssh_would_start(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/zsh")
    entry = "ProxyJump ada@first:99,second\nHostName 10.0.0.7\nPort 7\n"
    assert way(desk.connection("a", entry)).proxy == (
        *("ssh", "-F", str(desk.config), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
        *("-W", "[10.0.0.7]:7", "-J", "ada@first:99", "--", "ssh://second"),
    )
    entry = "ProxyCommand nc -x %r%% %h %p\nUser eve\n"
    assert way(desk.connection("a", entry)).proxy == ("/bin/zsh", "-c", "exec nc -x eve% a 22")


def test_openssh_is_asked_once_for_a_host(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = desk.connection("a", "")
    found = way(made)
    monkeypatch.setattr(shell, "run", lambda *_args, **_words: pytest.fail("asked again"))
    assert way(made) is found


@pytest.mark.parametrize(
    ("word", "user"),
    [
        ("-oProxyCommand=touch ran", ""),
        ("-G", ""),
        ("a;touch ran", ""),
        ("$(touch ran)", ""),
        ("a", "-F/dev/null"),
        ("a", "`touch ran`"),
    ],
)
def test_a_word_that_is_no_name_is_no_option_and_no_command(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, user: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PreflightError, match=r"is no name of a (host|user)$"):
        way(desk.connection(word, "ProxyCommand echo %h %r\n", user))
    assert not (tmp_path / "ran").exists()


def test_an_error_in_ssh_config_is_one_line_that_says_where(desk: Desk) -> None:
    with pytest.raises(
        PreflightError, match=r"^a: ssh -G: .*config.* line 1: .*nonsense"
    ) as caught:
        way(desk.connection("a", "Nonsense yes\n"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line", "global_"),
    [
        ("[127.0.0.1]:{port}", "", True),
        ("[127.0.0.1]:{port}", "HashKnownHosts yes", False),
        ("alias", "HostKeyAlias alias", False),
        ("*.inside.example", "HostKeyAlias a.inside.example", True),
    ],
)
def test_host_keys_are_found_where_openssh_finds_them(
    desk: Desk, sshd: Sshd, name: str, line: str, global_: bool
) -> None:
    files = desk.known, Path(f"{desk.known}2")
    for file in files:
        file.write_text("")
    desk.trust(name.format(port=sshd.port), files[global_])
    if "Hash" in line:
        keygen("-H", "-f", desk.known)
        assert "127.0.0.1" not in desk.known.read_text()
    lines = [line] if line else []
    entry = desk.entry(sshd.port, *lines, f"IdentityFile {desk.key}")
    assert says(desk.host("box", entry)) == "here\n"
    for file in files:
        file.write_text("")


@pytest.mark.parametrize(
    ("mark", "key", "why"),
    [
        ("", None, "its host key is unknown"),
        ("", OTHER_KEY, r"not the known one.* ssh-keygen -R 'alias'|-R alias"),
        ("@revoked ", HOST_KEY, "its host key is unknown"),
    ],
)
def test_only_a_known_host_key_is_accepted(
    desk: Desk, sshd: Sshd, mark: str, key: paramiko.PKey | None, why: str
) -> None:
    """Whatever ssh_config says of it."""
    desk.known.write_text("")
    if key is not None:
        desk.trust(f"{mark}alias", key=key)
    if mark:
        desk.trust("alias", key=HOST_KEY)
    lines = (f"IdentityFile {desk.key}", "StrictHostKeyChecking no", "HostKeyAlias alias")
    sshd.seen.clear()
    with pytest.raises(PreflightError, match=why):
        says(desk.host("box", desk.entry(sshd.port, *lines)))
    assert not sshd.seen
    desk.known.write_text("")


def _jump(desk: Desk, port: int, jump: int) -> str:
    known = f"UserKnownHostsFile {desk.known}"
    first = f"Host first\n  HostName 127.0.0.1\n  Port {jump}\n  User ada\n  {known}\n"
    mine = f"  IdentityFile {desk.key}\n  GlobalKnownHostsFile none\n"
    return first + mine + desk.entry(port, "ProxyJump first", f"IdentityFile {desk.key}")


def test_a_jump_is_openssh_itself(known: Desk, sshd: Sshd) -> None:
    jump = Sshd(known.key.with_suffix(".pub").read_text())
    with contextlib.closing(jump):
        known.trust(f"[127.0.0.1]:{jump.port}")
        host = known.host("box", _jump(known, sshd.port, jump.port))
        with contextlib.closing(host):
            assert host.run("echo here") == "here\n"
            assert jump.seen
            host.close()  # as before a reboot
            assert host.run("echo again") == "again\n"
            jump.close()
            with pytest.raises(UnreachableError):
                host.run("sleep 60")
    assert host._proxy is not None
    assert host._proxy._process.returncode is not None  # nothing of it is left


def test_a_jump_that_is_not_known_is_named(known: Desk, sshd: Sshd) -> None:
    jump = Sshd(known.key.with_suffix(".pub").read_text())
    with (
        contextlib.closing(jump),
        pytest.raises(UnreachableError, match=r"on the way to it: .*[Hh]ost key verification"),
    ):
        says(known.host("box", _jump(known, sshd.port, jump.port)))


def test_fab_follows_it_too(desk: Desk, sshd: Sshd) -> None:
    """Fabric itself reads none of it: at ``Match host=`` it would fail."""
    desk.config.write_text(f"Match host=box\n  HostName 127.0.0.1\n  Port {sshd.port}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from fabric.main import program; program.run()"),
            *("--search-root", ROOT, "-S", desk.config, "-t", "9", "-H", "box", "status"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 1
    assert f"error: 127.0.0.1:{sshd.port}: its host key is unknown: " in done.stdout
    assert "Traceback" not in done.stdout
