"""A gateway without a boot: the deploy on a small Debian, with its real sshd, PostgreSQL and rsync.

It listens on the loopback of a world of its own, and its clients, who are in there too, are this
machine's ssh, sftp and rsync.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys import box
from deploys.box import Box, BoxRow, Where
from deploys.operations.manifest import RELEASE
from deploys.services.gateway import OWNERS
from deploys.services.provisiond import provisiond
from deploys.session import PlannedOperation, Session, Target
from deploys.settings import Settings, paths
from deploys.stack import bundle
from deploys.stack.bundle import Project
from kimpipeline.settings import QueueSettings
from tasks.debian import bootstrap, chroot
from tasks.desk import loop, shell, ssh_keys
from tasks.desk.places import BUNDLES, ROOT
from tasks.guests import bare_tree
from tasks.stack.bundle import python_bundle
from tasks.stack.packages import PYTHONS
from tests import namespaces
from tests.namespaces import World
from tests.storage.trees import make_ubuntu

__all__ = ["OWNERS"]

SETTINGS = Settings.model_validate(
    {"role": "gateway", "gateway": {"quota": "16M", "queue": "128M"}}
)
HOST = "pipeline@127.0.0.1"
ITEM = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
PASSWORDS = {"ada": "Ada's pass: word $(id)", "bob": "bob's own; word"}
# What the box's other deploys and boots leave there.
_BOX = {
    RELEASE: "ROLE=gateway\n",
    "/etc/default/resnap": "VOLGROUP=vagrant-pipeline\nLVROOT=root\n",
}
_DAEMONS = {
    # as its units have it
    "keys": "{ setsid systemd-socket-activate --accept --inetd -l /run/gateway/keys "
    "/usr/lib/gateway/owners hand-in </dev/null >>/var/log/keys.log 2>&1 & } && "
    "until [ -S /run/gateway/keys ]; do sleep 0.1; done; chown pipeline /run/gateway/keys",
    "sshd": "mkdir -p /run/sshd && exec /usr/sbin/sshd -E /var/log/sshd.log",
    # as its unit has it
    "database": "cd / && /usr/lib/gateway/database make && "
    "{ setsid runuser -u postgres -- /usr/lib/gateway/database run "
    "</dev/null >>/var/log/database.log 2>&1 & } && "
    "until runuser -u postgres -- psql -d postgres -c '' >/dev/null 2>&1; do "
    "kill -0 $! || exit 1; sleep 0.1; done; "
    "/usr/lib/gateway/database update",
}
_PORTS = {"sshd": 22}


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs; ``root`` is its own, ``home`` that of a user who is its operator."""

    root: Path
    home: Path
    world: World

    def inside(self, *argv: str, check: bool = True, stdin: str | None = None) -> str:
        """What a command on the gateway printed, run as root."""
        enter = self.world.enter("chroot", self.root, *argv)
        return shell.run(
            enter, env=chroot.environment(), timeout=60, check=check, input=stdin
        ).stdout

    def outside(
        self,
        *argv: str | Path,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> shell.Completed:
        """A command of somebody who reaches the gateway over the network."""
        own = {"HOME": str(self.home), "SSH_AUTH_SOCK": "", **(env or {})}
        return shell.run(self.world.enter(*argv), env=own, timeout=60, check=False, input=stdin)

    def fab(self, *words: str, stdin: str | None = None) -> shell.Completed:
        """``fab -H`` on it, as its operator says it."""
        program = Path(sys.executable).with_name("fab")
        ssh = self.home / ".ssh"
        login = ("--ssh-config", ssh / "config", "-H", "root@127.0.0.1", "-i", ssh / "id_ed25519")
        return self.outside(program, "--search-root", ROOT, *login, *words, stdin=stdin)

    def key(self, owner: str) -> Path:
        """The private key of an owner, as he fetched it: mode 0600."""
        mine = self.home / owner
        if not mine.exists():
            theirs = self.state / "owners" / owner / "files/id_ed25519"
            mine.touch(mode=0o600)
            mine.write_bytes(theirs.read_bytes())
        return mine

    def by_key(
        self, owner: str, *words: str, stdin: str | None = "", source: str = "127.0.0.1"
    ) -> shell.Completed:
        """ssh with the key of an owner; ``words`` are options, the account, a command.

        ``source`` is as in ``by_password``.
        """
        return self.outside("ssh", *self.with_key(owner, source), *words, stdin=stdin)

    def rsync(self, owner: str, *words: str | Path) -> shell.Completed:
        """rsync with the key of an owner; one connection serves them all, which saves time."""
        shared = (
            "-oControlMaster=auto",
            "-oControlPersist=60",
            f"-oControlPath={self.home}/%n-{owner}",
        )
        ssh = shlex.join(["ssh", *self.with_key(owner), *shared])
        return self.outside("rsync", "-e", ssh, *words)

    def with_key(self, owner: str, source: str = "127.0.0.1") -> tuple[str, ...]:
        """ssh's options for the key of an owner."""
        return (*self._options(source), "-oBatchMode=yes", f"-i{self.key(owner)}")

    def by_password(
        self, password: str, program: str, *words: str | Path, source: str = "127.0.0.1"
    ) -> shell.Completed:
        """ssh, sftp or scp, given one password each time that it asks for one.

        ``source`` is the address it comes from, ``127.0.0.N``: sshd remembers who failed.
        """
        asked, secret = self.home / "askpass", self.home / "secret"
        secret.write_text(f"{password}\n")
        asked.write_text(f"#!/bin/sh\necho >>{asked}.log\nexec cat {secret}\n")
        asked.chmod(0o700)
        asked.with_suffix(".log").write_text("")
        env = {"SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"}
        return self.outside(program, *self._options(source), *words, stdin="", env=env)

    @property
    def asked(self) -> int:
        """How often the last program was asked for the password."""
        return len((self.home / "askpass.log").read_text())

    def _options(self, source: str) -> tuple[str, ...]:
        """ssh's options that leave out this machine's settings and trust no new host key."""
        settings = {
            "BindAddress": source,
            "ConnectTimeout": "20",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.home / ".ssh/known_hosts"),
        }
        return ("-F", "none", *(f"-o{name}={value}" for name, value in settings.items()))

    @property
    def seen(self) -> Path:
        """Its root with what it mounted, as this process sees it."""
        return Path(f"/proc/{self.world.pid}/root", *self.root.parts[1:])

    @property
    def state(self) -> Path:
        return self.seen / paths.STATE[1:]

    @property
    def items(self) -> Path:
        return self.state / "srv/items"

    def results(self, owner: str) -> Path:
        return self.state / "srv/results" / owner

    def start(self, daemon: str) -> None:
        """Start one of its daemons, and wait until it answers."""
        self.inside("sh", "-c", _DAEMONS[daemon])
        if daemon not in _PORTS:
            return
        probe = f"exec 3<>/dev/tcp/127.0.0.1/{_PORTS[daemon]}"
        listens = ["bash", "-c", f"{probe} 2>/dev/null"]
        tries = Retrying(
            retry=retry_if_result(lambda code: code != 0),
            stop=stop_after_delay(20),
            wait=wait_fixed(0.05),
        )
        tries(lambda: self.outside(*listens).returncode)

    def sql(self, statement: str) -> str:
        """What the database answers its own user."""
        return self.inside("/usr/lib/gateway/database", "sql", stdin=f"{statement};\n").strip()

    @contextlib.contextmanager
    def database(self, owner: str, user: str = "me") -> Iterator[QueueSettings]:
        """The settings of a box of an owner; what it connects to is joined by its ssh, as on a box.

        ``user`` is as whom it would like to come in.
        """
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as here:
            here.bind(f"{folder}/.s.PGSQL.5432")
            here.listen()
            ssh = ("ssh", *self.with_key(owner), "-T", HOST, "queue")
            words = [*map(str, self.world.enter(*ssh))]
            joined: list[subprocess.Popen[bytes]] = []

            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        end, _ = here.accept()
                        with end:
                            both = end.fileno()
                            joined.append(subprocess.Popen(words, stdin=both, stdout=both))

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield QueueSettings(host=folder, user=user, reach=0)
            finally:
                here.shutdown(socket.SHUT_RDWR)
                thread.join()
                for each in joined:
                    each.kill()
                    each.wait()

    def kill(self, program: str) -> None:
        self.inside("pkill", "-KILL", "-x", program)

    def log(self) -> str:
        """What sshd said."""
        return (self.root / "var/log/sshd.log").read_text()


def apply(root: Path) -> list[PlannedOperation]:
    """A pass of both roles' deploys over a root; what would have been changed beforehand."""
    target = Target("the gateway", chroot=root, environment=chroot.environment())
    deploys = (
        lambda: provisiond(roles=box.ROLES),
        *(each for settings, row in _rows() for each in row.deploys(_made(settings))),
        lambda: box.wanted_by_target(units=("provisiond.service", *_units())),
    )
    with loop.chroot(root), Session(target) as session:
        planned = session.prepare(deploys)
        session.run()
    return list(planned)


def _rows() -> Iterator[tuple[Settings, BoxRow]]:
    """What its role adds to a gateway, and a devel box's to it: one container is to be both."""
    for settings in (SETTINGS, Settings()):
        for row in box.rows(settings, Where.SNAPSHOT):
            if row.of and isinstance(row, BoxRow):
                yield settings, row


def _made(settings: Settings) -> Box:
    return Box(where=Where.SNAPSHOT, settings=settings, project=Project("", ""))


def _units() -> Iterator[str]:
    return (unit for _, row in _rows() for unit in row.units)


# The systems that a box may be, by their codenames, and their Pythons.
SUITES = {**PYTHONS, "jammy": "3.10", "noble": "3.12"}


def unpacked(folder: Path, suite: str = "trixie") -> Path:
    """The root of a small system with the packages of the role, and what a box has beside."""
    root, tar = folder / "root", folder / "tree.tar"
    resolver = () if suite == "jammy" else ("systemd-resolved",)  # there systemd has it
    of_rows = (name for _, row in _rows() for name in row.packages)
    packages = ("iproute2", "make", "systemd", *resolver, *of_rows)
    if suite in PYTHONS:
        lines, options = bootstrap.sources(suite), bootstrap.relaxations()
        bootstrap.make_tree(tar, bootstrap.Tree(suite, packages, lines, options, lists=False))
    else:
        make_ubuntu(tar, suite, packages)
    root.mkdir()
    bare_tree.unpack(tar, root)
    tar.unlink()
    for path, text in _BOX.items():
        (root / path[1:]).write_text(text)
    (root / "persistent").mkdir()
    libraries = root / bundle.PYTHON_PATH[1:]
    libraries.mkdir(parents=True)
    archive = python_bundle(SUITES[suite], BUNDLES).path
    shell.run(["tar", "-C", libraries, "-xf", archive, "--no-same-owner"], timeout=120)
    return root


@contextlib.contextmanager
def layered(lower: Path, folder: Path) -> Iterator[Path]:
    """A root like ``lower``, which stays as it is; what is written lies in ``folder``."""
    upper, work, root = (folder / name for name in ("upper", "work", "root"))
    for each in (upper, work, root):
        each.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with loop.mounted("overlay", root, "-t", "overlay", "-o", options):
        yield root


@contextlib.contextmanager
def running(root: Path, home: Path) -> Iterator[Gateway]:
    """The gateway of a root to which the deploy was applied, with its operator's login."""
    login = home / ".ssh/id_ed25519"
    allowed = root / "root/.ssh/authorized_keys"
    allowed.parent.mkdir(mode=0o700, exist_ok=True)
    allowed.write_text(f"{ssh_keys.make_key(login)}\n")
    public = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    (home / ".ssh/known_hosts").write_text(f"127.0.0.1 {public}")
    (home / ".ssh/config").write_text(f"UserKnownHostsFile {home}/.ssh/known_hosts\n")
    with namespaces.world() as world:
        world.run("ip", "link", "set", "lo", "up")
        made = Gateway(root, home, world)
        world.run("mount", "-t", "proc", "proc", root / "proc")
        world.run("mount", "-t", "tmpfs", "-o", "mode=755", "run", root / "run")
        world.run("mount", "--bind", "/dev", root / "dev")
        world.run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", root / "dev/shm")
        made.inside(
            "sh",
            "-c",
            "mkdir /run/resnap && echo fresh | tee /run/resnap/fresh >/run/resnap/in-snapshot",
        )
        made.inside(OWNERS, "restore")
        made.start("database")
        made.start("keys")
        made.start("sshd")
        try:
            yield made
        finally:  # it would not let go of its room
            made.inside("pkill", "-QUIT", "-o", "-x", "postgres", check=False)
            made.inside("pkill", "-f", "^systemd-socket-activate", check=False)


def everything(gateway: Gateway, but: Path | None = None) -> dict[str, bytes | str]:
    """All that clients could reach for, by path: contents, and where links lead.

    That is the items, all results without those below ``but``, the accounts, /etc and /tmp.
    """
    found: dict[str, bytes | str] = {}
    tops = (gateway.state / "srv", gateway.state / "owners", gateway.seen / "etc")
    for top in (*tops, gateway.seen / "tmp"):
        for path in top.rglob("*"):
            if but and path.is_relative_to(but):
                continue
            name = str(path.relative_to(gateway.seen))
            if path.is_symlink():
                found[name] = str(path.readlink())
            else:
                found[name] = path.read_bytes() if path.is_file() else "a folder"
    return found
