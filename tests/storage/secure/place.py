"""A gateway and the box that is given its part, in one container, as seen from beside it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploys.services.secure import ASK, SECURE
from tasks.debian import chroot
from tasks.desk import shell
from tests import namespaces
from tests.storage.gateway.booted import Booted, booted

PASSWORD = "Ada's pass: word $(id)"
SITE = "127.0.0.1"
SCAN = """
import select, socket
ports = [*range(1, 1100), 8080, *range(14170, 14190)]
sockets = {}
poll = select.poll()
for port in ports:
    each = socket.socket()
    each.setblocking(False)
    each.connect_ex(("10.9.0.2", port))
    sockets[each.fileno()] = each, port
    poll.register(each, select.POLLOUT)
found = set()
while events := poll.poll(2000):
    for number, _ in events:
        each, port = sockets[number]
        error = each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        found.add((port, "refused" if error else "open"))
        poll.unregister(number)
print(sorted(found) if len(found) < 50 else sorted(p for p, word in found if word == "open"))
"""


@dataclass(frozen=True)
class Place:
    """The container, its root as the host sees it, and the world that it is seen from."""

    box: Booted
    root: Path
    world: namespaces.World

    def secure(self, *words: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        argv = ("nsenter", "--target", str(self.box.pid), "--all", SECURE)
        return subprocess.run(
            [*argv, "--password-fd", "0", *words],
            env=chroot.environment(),
            input=f"{password}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def secure_director(self, host_key: str) -> subprocess.CompletedProcess[str]:
        words = ("--role=director", f"--site={SITE}", "--username=ada", f"--host-key={host_key}")
        return self.secure(*words)

    def lets_in(self, home: Path) -> bool:
        """Whether sshd gives root a shell, for the key in a home that knows the box."""
        ssh = home / ".ssh"
        options = (
            "-F",
            "none",
            "-o",
            f"UserKnownHostsFile={ssh}/known_hosts",
            "-o",
            "BatchMode=yes",
        )
        argv = self.world.enter("ssh", *options, "-i", ssh / "id_ed25519", "root@10.9.0.2", "id -u")
        return subprocess.run(argv, capture_output=True, check=False, timeout=30).stdout == b"0\n"

    def scan(self) -> str:
        """The ports that answer to who comes over the network."""
        return self.world.run("python3", "-c", SCAN).strip()


@contextlib.contextmanager
def running(root: Path, console: str = "", *words: str) -> Iterator[Place]:
    """The container booted, with servers on two ports, and a cable to a world; see ``booted``."""
    with namespaces.world() as world, booted(root, console, *words) as box:
        near, far = ("netns", str(box.pid)), ("netns", str(world.pid))
        shell.run(["ip", "link", "add", "out0", *far, "type", "veth", "peer", "in0", *near])
        world.run("ip", "address", "add", "10.9.0.1/24", "dev", "out0")
        world.run("ip", "link", "set", "out0", "up")
        box.run("ip", "address", "add", "10.9.0.2/24", "dev", "in0")
        box.run("ip", "link", "set", "in0", "up")
        for port in ("14178", "8080"):
            box.run("systemd-run", "--quiet", "python3", "-m", "http.server", port)
            box.succeeds(f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        yield Place(box, root, world)


class Console:
    """A terminal that a container has for its console, and who sits there."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)

    def says(self, text: str, seconds: float = 30) -> bool:
        """Whether a text comes within that time."""
        said, deadline = "", time.monotonic() + seconds
        while text not in said:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return False
            said += os.read(self._master, 4096).decode(errors="replace")
        return True

    def has_a_shell(self, seconds: float = 30) -> bool:
        os.write(self._master, b"\necho is $((6 * 7))\n")
        return self.says("is 42", seconds)


class Terminal:
    """The script as its user sees it: what it asks, what he types."""

    def __init__(self, box: Booted) -> None:
        self._master, slave = os.openpty()
        argv = ["nsenter", "--target", str(box.pid), "--all", "setsid", "--ctty", "--wait", ASK]
        self._process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=chroot.environment()
        )
        os.close(slave)
        self.said = ""

    def asks(self, question: str) -> None:
        deadline = time.monotonic() + 40
        while question not in self.said:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, self.said
            try:
                self.said += os.read(self._master, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended: {self.said}") from None

    def types(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def ends(self) -> int:
        self._process.wait(60)
        os.close(self._master)
        return self._process.returncode

    def answers(self, role: str, host_key: str) -> None:
        """All questions but the last."""
        for question, answer in (
            ("worker or director? ", role),
            ("sitename? ", SITE),
            ("username? ", "ada"),
            (host_key, ""),
        ):
            self.asks(question)
            if answer:
                self.types(answer)
        self.asks("[y/N] ")
        self.types("yes")
        self.asks("password? ")


def closed(place: Place) -> None:
    """Nothing comes in but to the status page; nobody logs in."""
    place.box.succeeds("! pgrep '^sshd'")
    place.box.run("systemctl", "start", "ssh.service")
    assert place.box.property("ssh.service", "ActiveState") == "inactive"
    assert place.scan() == "[(14178, 'open')]"
    rows = [line.split(":")[:2] for line in place.box.run("cat", "/etc/shadow").splitlines()]
    # but for the gateway's owner, who is on this box as it is that too
    assert {word for name, word in rows if name != "ada"} == {"*"}
    assert place.box.run("find", "/root", "/home", "-name", "authorized_keys*") == ""
