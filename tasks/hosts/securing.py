"""A box's part in a pipeline, given from the desk: runs the box's own ``./secure``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

from deploys.box import ROLES
from deploys.errors import BoxError, DeployError, PreflightError
from deploys.services.secure import SECURE
from tasks.desk import questions
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_snapshot, is_gateway, state_of_box

_FAILED = "it failed"
_PASSWORD_BYTES = 4096  # at most


@dataclass(frozen=True)
class Part:
    """A part in a pipeline: the ``role``, the gateway (``site``) and the account on it."""

    role: str
    site: str
    username: str


def require_part(part: Part) -> None:
    """Require that a part is whole, and one that ``secure`` can give.

    Raises:
        BoxError: it is not.
    """
    if part.role == "gateway":
        raise BoxError("provision --role gateway makes a gateway")
    if part.role not in ROLES or not part.site or not part.username:
        raise BoxError(f"say --role {' or '.join(ROLES)}, --site and --username")


def read_password(part: Part, descriptor: int) -> str:
    """The password of the part's account; arguments and errors as ``questions.password``."""
    prompt = f"password of {part.username} at {part.site}: "
    return questions.password(prompt, descriptor, _PASSWORD_BYTES)


def secure(host: Host, progress: HostProgress, part: Part, host_key: str, password: str) -> str:
    """Give a box its part, and shut it off; the last line that its ``./secure`` printed.

    Raises:
        BoxError: the host can have no part, or ``./secure`` failed.
    """
    progress.step("looking at the host")
    _require_fit(host)
    progress.step(f"making it a {part.role}")
    words = [f"--role={part.role}", f"--site={part.site}", f"--username={part.username}"]
    command = shlex.join([SECURE, *words, f"--host-key={host_key}", "--password-fd=0"])
    return _last_line(host, command, f"{password}\n".encode())


def confirm_host_key(host: Host, site: str) -> str:
    """A gateway's host key as a box sees it, which somebody at this terminal knows.

    Raises:
        BoxError: nobody does, the box is not fit, or the gateway cannot be reached from it.
    """
    if not sys.stdin.isatty():
        raise BoxError("there is no terminal to show the gateway's host key on: say --host-key")
    try:
        _require_fit(host)
        offered = _last_line(host, shlex.join([SECURE, f"--show-host-key={site}"]))
    finally:
        host.close()
    print(f"{host.name}: the host key of {site} is {offered}")
    if not questions.is_yes("Is that what its operator told you?"):
        raise BoxError("nothing was changed")
    return offered


def _require_fit(host: Host) -> None:
    state = state_of_box(host)
    if is_gateway(state):
        raise PreflightError(f"{host.name} is a gateway: it has no other part")
    expect_snapshot(host, state)  # a part given to the golden root would be in every snapshot


def _last_line(host: Host, command: str, stdin: bytes | None = None) -> str:
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
