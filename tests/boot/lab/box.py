"""A guest with the verbs of the tests: succeed, fail, reboot, provision."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys.errors import DeployError
from deploys.facts.state import HostState, Verdict
from tasks.desk import ssh_keys
from tasks.desk.flags import load
from tasks.desk.places import ROOT
from tasks.desk.progress import HostProgress
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.connection import Host
from tasks.hosts.fleet import connected
from tasks.hosts.provision import Provision, Provisioned, Request
from tests.hosts.guest import Guest

# A boot takes a minute; two guests at a time on a busy machine take several.
DEADLINE = 600
# Of three guests at a time on two cores: with two each, they spin on each other's locks.
CPUS = 1
# No part of the stack: it has its own test.
LEAN = ("boot.deadline=60", "stack=none")
# The same for a box that is built, with a small disk.
SMALL = (
    "image.disk_size=10G",
    "volumes.persistent_size=256M",
    "volumes.swap_size=64M",
    *LEAN,
)


@dataclass(frozen=True)
class Box:
    """A running guest, its SSH connection, and the settings that it has or will get."""

    guest: Guest
    host: Host
    settings: tuple[str, ...] = LEAN

    def succeed(self, command: str) -> str:
        """Run a command as root, which must have exit code 0; returns what it printed."""
        return self.host.run(command)

    def fail(self, command: str) -> None:
        """Run a command as root, which must not have exit code 0."""
        try:
            printed = self.host.run(command)
        except DeployError:
            return
        raise AssertionError(f"{command} succeeded: {printed}")

    @property
    def state(self) -> HostState:
        return self.host.state()

    @property
    def verdict(self) -> Verdict:
        verdict = self.state.verdict
        assert verdict is not None, "the boot left no verdict"
        return verdict

    def reboot(self, entry: str | None = None) -> HostState:
        return self.host.reboot(entry, DEADLINE)

    def provision(
        self,
        *overrides: str,
        device: str | None = None,
        force: bool = False,
        reclaim: bool = False,
        in_file: int | None = None,
    ) -> Provisioned:
        settings = load(overrides=overrides or self.settings)
        progress = HostProgress("box", Progress(disable=True))
        return Provision(
            self.host, settings, Request(device, force, reclaim, in_file), progress
        ).run()


@contextlib.contextmanager
def running(
    folder: Path,
    identity: ssh_keys.Identity,
    machine: Machine,
    accel: accelerator.Accelerator,
    settings: tuple[str, ...] = LEAN,
) -> Iterator[Box]:
    """Start a guest and wait until it accepts SSH; its power is cut at the end."""
    with Guest.start(folder, machine, identity, accel) as guest, reached(guest, settings) as box:
        yield box


@contextlib.contextmanager
def reached(guest: Guest, settings: tuple[str, ...] = LEAN) -> Iterator[Box]:
    """Wait until a running guest accepts SSH."""
    host = connected(guest)
    try:
        host.wait(DEADLINE)
        yield Box(guest, host, settings)
    finally:
        host.close()


@dataclass(frozen=True)
class Ran:
    """The exit code and the output of a command of ours."""

    code: int
    stdout: str
    stderr: str


def command(tool: str, *arguments: str, state: Path, home: Path | None = None) -> Ran:
    """Run ``inv`` or ``fab`` as a user would, with its guests and images in ``state``.

    ``home`` is the user's home: ``fab`` is given its ssh_config, as OpenSSH heeds no ``$HOME``.
    """
    done = subprocess.run(
        _argv(tool, arguments, home),
        env=_environment(state, home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n")  # pytest shows this when a test fails
    return Ran(done.returncode, done.stdout, done.stderr)


def interrupted(
    tool: str,
    *arguments: str,
    at: str,
    state: Path,
    home: Path | None = None,
    until: Callable[[], object] = lambda: None,
) -> Ran:
    """As ``command``, but press Ctrl-C when ``at`` is on its standard error.

    ``until`` is called before the Ctrl-C; it can wait for a further condition.
    """
    with subprocess.Popen(
        _argv(tool, arguments, home),
        env=_environment(state, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background makes them ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:
        assert started.stderr is not None
        assert any(at in line for line in started.stderr)
        until()
        started.send_signal(signal.SIGINT)
        stdout, stderr = started.communicate(timeout=60)
    print(stdout, stderr, sep="\n")
    return Ran(started.returncode, stdout, stderr)


def _argv(tool: str, arguments: Sequence[str], home: Path | None) -> list[str | Path]:
    argv: list[str | Path] = [Path(sys.executable).with_name(tool), "--search-root", ROOT]
    if home and tool == "fab":
        argv += ["--ssh-config", home / ".ssh/config"]
    return [*argv, *arguments]


def _environment(state: Path, home: Path | None) -> dict[str, str]:
    extra = {"HOME": str(home)} if home else {}
    return {**os.environ, "OPENKIM_BOX_STATE": str(state), **extra}


def status(state: Path, words: Sequence[str] = ("status", "--json")) -> dict[str, object]:
    """The local guest's status, as ``inv status --json`` prints it."""
    ran = command("inv", *words, state=state)
    assert ran.code == 0, ran.stderr
    (values,) = json.loads(ran.stdout).values()
    assert isinstance(values, dict)
    return values


def flags(settings: Sequence[str]) -> list[str]:
    """Settings as words of a command line."""
    return [word for setting in settings for word in ("--set", setting)]


def home_that_knows(box: Box, folder: Path) -> Path:
    """A user's home in ``folder``, whose known_hosts file has the box's host key."""
    ssh = folder / ".ssh"
    ssh.mkdir()
    (ssh / "known_hosts").write_text(box.guest.login.known_hosts.read_text())
    (ssh / "config").write_text(f"UserKnownHostsFile {ssh}/known_hosts\n")
    return folder


def is_open(guest: Guest) -> bool:
    """Whether a guest's sshd greets who comes."""
    try:
        with socket.create_connection((guest.login.host, guest.login.port), timeout=20) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


def until(condition: Callable[[], Any]) -> Any:
    """What the condition says when it says something."""
    tries = Retrying(
        retry=retry_if_result(lambda found: not found),
        stop=stop_after_delay(DEADLINE),
        wait=wait_fixed(1),
    )
    return tries(condition)


def becomes_a_box(host: Box) -> None:
    """Provision a bare host; it resets at its next boot, and a second provision changes nothing."""
    assert host.provision(*LEAN).changed
    assert host.verdict.name == "fresh"
    assert host.state.initrd_matches
    host.succeed("touch /etc/of-this-snapshot /persistent/stays")
    host.reboot()
    assert host.verdict.name == "fresh"
    host.fail("test -e /etc/of-this-snapshot")
    host.succeed("test -e /persistent/stays")
    assert not host.provision().changed
