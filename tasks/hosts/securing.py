"""Give a box its part in a pipeline, by its own ``./secure``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from functools import cache

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
    """A box's part: its ``role``, the gateway (``site``) and the owner's account there."""

    role: str
    site: str
    username: str


def require_part(part: Part) -> None:
    """Require that a part is complete, and one that ``secure`` can give.

    Raises:
        BoxError: it is not.
    """
    if part.role == "gateway":
        raise BoxError("provision --role gateway makes a gateway")
    if part.role not in ROLES or not part.site or not part.username:
        raise BoxError(f"say --role {' or '.join(ROLES)}, --site and --username")


@cache
def read_password(part: Part, descriptor: int) -> str:
    """Read the password of the part's account, once for all hosts of a command line.

    See ``questions.password``.
    """
    prompt = f"password of {part.username} at {part.site}: "
    return questions.password(prompt, descriptor, _PASSWORD_BYTES)


def secure(host: Host, progress: HostProgress, part: Part, host_key: str, password: str) -> str:
    """Give a box its part; return the last line that ``./secure`` printed.

    Raises:
        BoxError: the host cannot have a part, or ``./secure`` failed.
    """
    progress.step("looking at the host")
    _require_fit(host)
    progress.step(f"making it a {part.role}")
    words = [f"--role={part.role}", f"--site={part.site}", f"--username={part.username}"]
    command = shlex.join([SECURE, *words, f"--host-key={host_key}", "--password-fd=0"])
    return _last_line(host, command, f"{password}\n".encode())


def confirm_host_key(host: Host, site: str) -> str:
    """Show a gateway's host key as the box sees it, and return it once a person confirmed it.

    Raises:
        BoxError: there is no terminal, the answer is no, the host cannot have a part, or the box
            does not reach the gateway.
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
        raise PreflightError(f"{host.name} is a gateway: it can have no other role")
    expect_snapshot(host, state)  # else every snapshot would have the part


def _last_line(host: Host, command: str, stdin: bytes | None = None) -> str:
    """Run a command; return the last line that it printed.

    Raises:
        DeployError: its exit code is not 0; the error is that line.
    """
    lines = host.run(f"{command} 2>&1 || echo {shlex.quote(_FAILED)}", stdin=stdin).splitlines()
    failed = lines[-1:] == [_FAILED]
    said = (lines[:-1] if failed else lines)[-1:] or ["no message"]
    line = said[0].removeprefix("secure: ").removeprefix("runsecure: ")
    if failed:
        raise DeployError(f"{host.name}: {line}")
    return line
