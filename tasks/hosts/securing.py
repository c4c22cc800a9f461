"""The task that gives a box its part in a pipeline: what ``./secure`` asks there, from afar."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping

from invoke.context import Context
from invoke.tasks import task

from deploys.box import ROLES
from deploys.errors import BoxError, DeployError, PreflightError
from deploys.services.secure import SECURE
from tasks.desk import questions
from tasks.desk.progress import HostProgress, exit_on_error
from tasks.hosts import show
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_snapshot, is_gateway, state_of_box
from tasks.hosts.fleet import enlist, finish, host_of

_FAILED = "it failed"
_LINE = 4096  # bytes of a password at most


@task(
    post=[finish],
    help={
        "role": f"{' or '.join(ROLES)}; devel only fetches a key, and shuts nothing off.",
        "site": "The gateway, as HOST or HOST:PORT.",
        "username": "Your account on the gateway.",
        "host-key": "Host key of the gateway, as SHA256:...; without it, you are asked.",
        "password-fd": "Read the password from this open file instead of asking for it.",
    },
)
def secure(
    c: Context,
    role: str = "",
    site: str = "",
    username: str = "",
    host_key: str = "",
    password_fd: int = -1,
) -> None:
    """Make a devel box the pipeline's worker or director, and shut it off from the outside."""
    with exit_on_error():
        if role == "gateway":
            raise BoxError("provision --role gateway makes a gateway")
        if role not in ROLES or not site or not username:
            raise BoxError(f"say --role {' or '.join(ROLES)}, --site and --username")
        host_key = host_key or _confirmed(host_of(c), site)
        password = questions.password(f"password of {username} at {site}: ", password_fd, _LINE)
    words = [SECURE, f"--role={role}", f"--site={site}", f"--username={username}"]
    command = shlex.join([*words, f"--host-key={host_key}", "--password-fd=0"])

    def work(host: Host, progress: HostProgress) -> str:
        progress.step("looking at the host")
        _expect_fit(host)
        progress.step(f"making it a {role}")
        return _told(host, command, f"{password}\n".encode())

    enlist(c, work, _report)


def _confirmed(host: Host, site: str) -> str:
    """A gateway's host key as a box sees it, which somebody at this terminal knows.

    Raises:
        BoxError: nobody does, the box is not fit, or the gateway cannot be reached from it.
    """
    if not sys.stdin.isatty():
        raise BoxError("there is no terminal to show the gateway's host key on: say --host-key")
    try:
        _expect_fit(host)
        offered = _told(host, shlex.join([SECURE, f"--show-host-key={site}"]))
    finally:
        host.close()
    print(f"{host.name}: the host key of {site} is {offered}")
    if not questions.is_yes("Is that what its operator told you?"):
        raise BoxError("nothing was changed")
    return offered


def _expect_fit(host: Host) -> None:
    state = state_of_box(host)
    if is_gateway(state):
        raise PreflightError(f"{host.name} is a gateway: it has no other part")
    expect_snapshot(host, state)  # a part given to the golden root would be in every snapshot


def _told(host: Host, command: str, stdin: bytes | None = None) -> str:
    """The last line that a command printed, which its fault is too.

    Raises:
        DeployError: its exit code is not 0; with that line alone.
    """
    lines = host.run(f"{command} 2>&1 || echo {shlex.quote(_FAILED)}", stdin=stdin).splitlines()
    failed = lines[-1:] == [_FAILED]
    said = (lines[:-1] if failed else lines)[-1:] or ["it said nothing"]
    line = said[0].removeprefix("secure: ").removeprefix("runsecure: ")
    if failed:
        raise DeployError(f"{host.name}: {line}")
    return line


def _report(results: Mapping[str, str], _failed: Collection[str]) -> None:
    show.lines(results)
