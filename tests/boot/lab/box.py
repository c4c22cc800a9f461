"""A guest as the tests speak of it: succeed, fail, reboot, cut the power."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from deploys.errors import DeployError
from deploys.facts.state import HostState, Verdict
from tasks.desk import ssh_keys
from tasks.desk.flags import load
from tasks.desk.places import ROOT
from tasks.desk.progress import HostProgress
from tasks.guests.qemu import Guest, accelerator
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.connection import Host
from tasks.hosts.fleet import connected
from tasks.hosts.provision import Provision, Provisioned, Request

# A boot takes a minute; two guests at a time on a busy machine take several.
DEADLINE = 600
# Nothing to install but what a box cannot do without: the stack has its own test.
LEAN = ("boot.deadline=60", "stack=none")
# The same for a box that is built, on a disk that is small.
SMALL = (
    "image.disk_size=10G",
    "volumes.persistent_size=256M",
    "volumes.swap_size=64M",
    *LEAN,
)


@dataclass(frozen=True)
class Box:
    """A running guest and the host it is, over SSH; ``settings`` is what it is, or is to be."""

    guest: Guest
    host: Host
    settings: tuple[str, ...] = LEAN

    def succeed(self, command: str) -> str:
        """What a command printed that must have exit code 0, run as root."""
        return self.host.run(command)

    def fail(self, command: str) -> None:
        """A command that must not have exit code 0."""
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
    ) -> Provisioned:
        settings = load(overrides=overrides or self.settings)
        progress = HostProgress("box", Progress(disable=True))
        return Provision(self.host, settings, Request(device, force, reclaim), progress).run()


@contextlib.contextmanager
def running(
    folder: Path,
    identity: ssh_keys.Identity,
    machine: Machine,
    accel: accelerator.Accelerator,
    settings: tuple[str, ...] = LEAN,
) -> Iterator[Box]:
    """A guest that is on and lets us in; its power is cut at the end."""
    with Guest.start(folder, machine, identity, accel) as guest, reached(guest, settings) as box:
        yield box


@contextlib.contextmanager
def reached(guest: Guest, settings: tuple[str, ...] = LEAN) -> Iterator[Box]:
    """A guest that is on, as soon as it lets us in."""
    host = connected(guest)
    try:
        host.wait(DEADLINE)
        yield Box(guest, host, settings)
    finally:
        host.close()


@dataclass(frozen=True)
class Ran:
    """A command line of ours that ended."""

    code: int
    stdout: str
    stderr: str


def command(tool: str, *arguments: str, state: Path, home: Path | None = None) -> Ran:
    """Run ``inv`` or ``fab`` as a user would, with its guests and images below ``state``.

    ``home`` is the user's home, where the host keys that were confirmed are.
    """
    done = subprocess.run(
        _argv(tool, arguments),
        env=_environment(state, home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n")  # pytest shows it when a test fails
    return Ran(done.returncode, done.stdout, done.stderr)


def interrupted(
    tool: str,
    *arguments: str,
    at: str,
    state: Path,
    home: Path | None = None,
    until: Callable[[], object] = lambda: None,
) -> Ran:
    """As ``command``, with Ctrl-C when it has said ``at`` on its standard error.

    ``until`` is called in between: it waits for what else has to be so.
    """
    with subprocess.Popen(
        _argv(tool, arguments),
        env=_environment(state, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background would have it ignore the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as started:
        assert started.stderr is not None
        assert any(at in line for line in started.stderr)
        until()
        started.send_signal(signal.SIGINT)
        stdout, stderr = started.communicate(timeout=60)
    print(stdout, stderr, sep="\n")
    return Ran(started.returncode, stdout, stderr)


def _argv(tool: str, arguments: Sequence[str]) -> list[str | Path]:
    return [Path(sys.executable).with_name(tool), "--search-root", ROOT, *arguments]


def _environment(state: Path, home: Path | None) -> dict[str, str]:
    extra = {"HOME": str(home)} if home else {}
    return {**os.environ, "OPENKIM_BOX_STATE": str(state), **extra}


def status(state: Path, words: Sequence[str] = ("status", "--json")) -> dict[str, object]:
    """The local guest's status, from the program's own mouth."""
    ran = command("inv", *words, state=state)
    assert ran.code == 0, ran.stderr
    (values,) = json.loads(ran.stdout).values()
    assert isinstance(values, dict)
    return values


def flags(settings: Sequence[str]) -> list[str]:
    """Settings as words of a command line."""
    return [word for setting in settings for word in ("--set", setting)]


def home_that_knows(box: Box, folder: Path) -> Path:
    """A user's home below ``folder``, where the box's host key was confirmed."""
    ssh = folder / ".ssh"
    ssh.mkdir()
    (ssh / "known_hosts").write_text(box.guest.login.known_hosts.read_text())
    return folder


def becomes_a_box(host: Box) -> None:
    """A bare host is provisioned, resets itself, and a second provision has nothing to do."""
    assert host.provision(*LEAN).changed
    assert host.verdict.name == "fresh"
    assert host.state.initrd_matches
    host.succeed("touch /etc/of-this-snapshot /persistent/stays")
    host.reboot()
    assert host.verdict.name == "fresh"
    host.fail("test -e /etc/of-this-snapshot")
    host.succeed("test -e /persistent/stays")
    assert not host.provision().changed
