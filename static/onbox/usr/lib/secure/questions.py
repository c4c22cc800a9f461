"""Gives this box its role in a pipeline: asks four questions, fetches a key, shuts the box off.

Run it as root. It changes nothing before the gateway has accepted the username and the password.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

import memory
import paramiko
import site_keys
from site_keys import RefusedError, Site

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # the form of the gateway's account names
_LONGEST = 256  # characters of a password


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns exit code 0, or 1 with one line on standard error."""
    given = _parser().parse_args(argv)
    try:
        if given.show_host_key:
            site = Site.parse(given.show_host_key)
            print(site_keys.fingerprint(site_keys.host_key(site)))
        else:
            secure(given)
    except RefusedError as error:
        print(f"secure: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\nsecure: nothing was changed", file=sys.stderr)
        return 1
    return 0


def secure(given: argparse.Namespace) -> None:
    """Ask for what was not given, then give the box its role.

    Raises:
        RefusedError: an answer is invalid, the gateway refuses it, the key or the role could not
            be kept, or the role did not start. What was changed by then was undone.
    """
    if os.geteuid() != 0:
        raise RefusedError("run this as root, with sudo")
    if not memory.in_snapshot():
        raise RefusedError("the root is not a snapshot: reboot this box first")
    roles = memory.roles()
    question = " or ".join(role for role in roles if role != "devel")
    role = given.role or input(f"{question}? ").strip()
    if role not in roles:
        raise RefusedError(f"{role!r} is none of {', '.join(roles)}")
    site = Site.parse(given.site or input("sitename? "))
    username = given.username or input("username? ").strip()
    if not _NAME.fullmatch(username):
        raise RefusedError(f"{username!r} is no username: only a-z, 0-9, _ and - are allowed")
    host_key = site_keys.host_key(site)
    _confirm(site, host_key, given.host_key)
    key = site_keys.hand_in(site, host_key, username, _password(given.password_fd))
    # Do not stop between the steps below, even if the connection ends: runsecure ignores these too.
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        with memory.undone_on_failure():
            memory.keep_key(site, host_key, key)
            memory.keep_role(role, site, username)
            _start(role)
    except OSError as error:
        raise RefusedError(
            f"{error.filename}: {error.strerror}: repair that, and try again"
        ) from error


def _start(role: str) -> None:
    """Have runsecure shut the box off and start what the role is made of."""
    done = subprocess.run(  # noqa: S603
        [memory.RUNSECURE],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        restore_signals=False,
    )
    with contextlib.suppress(OSError):  # the caller may be gone
        print(done.stderr, end="", file=sys.stderr, flush=True)
    if done.returncode:
        why = "; ".join(done.stderr.splitlines()[-2:])  # what failed, and what follows from it
        raise RefusedError(f"this box did not become a {role}: {why}; mend that, and try again")


def _confirm(site: Site, offered: paramiko.PKey, expected: str) -> None:
    """Require a confirmed host key: confirmed earlier, given as an option, or asked about now."""
    known, shown = memory.known_key(site), site_keys.fingerprint(offered)
    if known and known != offered.get_base64():
        raise RefusedError(
            f"{site} has another host key than the one that was confirmed, {shown}: "
            f"if that is right, remove /persistent/pipeline/ssh"
        )
    if expected and expected != shown:
        raise RefusedError(f"the host key of {site} is {shown}, not {expected}")
    if known or expected:
        return
    print(f"The host key of {site} is {shown}")
    if input("Is that what its operator told you? [y/N] ").strip().lower() not in ("y", "yes"):
        raise RefusedError("nothing was changed")


def _password(descriptor: int) -> str:
    try:
        if descriptor < 0:
            password = getpass.getpass("password? ")
        else:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                password = file.readline(4 * _LONGEST).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError("the password cannot be read") from error
    if not 0 < len(password) <= _LONGEST:
        raise RefusedError(f"a password has 1 to {_LONGEST} characters")
    return password


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("secure", description=__doc__)
    parser.add_argument("--role", help="the role; devel gets a key, but is not shut off")
    parser.add_argument("--site", metavar="HOST[:PORT]", help="the gateway")
    parser.add_argument("--username", metavar="NAME", help="your account at the gateway")
    parser.add_argument(
        "--password-fd",
        type=int,
        default=-1,
        metavar="N",
        help="read the password from file descriptor N",
    )
    parser.add_argument(
        "--host-key",
        default="",
        metavar="SHA256:...",
        help="the gateway's host key, which is then not asked about",
    )
    parser.add_argument(
        "--show-host-key", metavar="HOST[:PORT]", help="only print a gateway's host key"
    )
    return parser
