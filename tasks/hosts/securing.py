"""Give a box its part in a pipeline, by its own ``./secure``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from deploys.box import ROLES
from deploys.errors import BoxError, DeployError, PreflightError, one_line
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


def read_password(part: Part, descriptor: int) -> str:
    """Read the password of the part's account: see ``questions.password``."""
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


def confirm_host_key(hosts: Sequence[Host], site: str) -> str:
    """Show a gateway's host key as the boxes see it, and return it once a person confirmed it.

    Raises:
        BoxError: there is no terminal, the answer is no, a host cannot have a part or does not
            reach the gateway, or the boxes see different keys.
    """
    if not sys.stdin.isatty():
        raise BoxError("there is no terminal to show the gateway's host key on: say --host-key")
    offered = {host.name: _offered(host, site) for host in hosts}
    for name, key in offered.items():
        print(f"{name}: the host key of {site} is {key}")
    if len(keys := set(offered.values())) > 1:
        raise BoxError(f"these hosts see different host keys of {site}: say --host-key")
    if not questions.is_yes("Is that what its operator told you?"):
        raise BoxError("nothing was changed")
    return keys.pop()


def _offered(host: Host, site: str) -> str:
    try:
        _require_fit(host)
        return _last_line(host, shlex.join([SECURE, f"--show-host-key={site}"]))
    finally:
        host.close()


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
    line = one_line(said[0]).removeprefix("secure: ").removeprefix("runsecure: ")
    if failed:
        raise DeployError(f"{host.name}: {line}")
    return line
