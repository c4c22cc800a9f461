"""The local guest as the benches use it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

from rich.progress import Progress

from tasks.desk.places import GUEST
from tasks.desk.progress import HostProgress
from tasks.hosts.connection import Host
from tasks.hosts.fleet import guest_host
from tests.hosts.guest import Guest


@contextlib.contextmanager
def running_host() -> Iterator[Host]:
    """The guest of ``inv up`` over a connection of its own.

    Raises:
        BoxError: none runs.
    """
    host = guest_host()
    try:
        host.connect()
        yield host
    finally:
        host.close()


class SilentProgress(HostProgress):
    """Progress that nobody sees."""

    def __init__(self) -> None:
        super().__init__("bench", Progress(disable=True))

    def _log(self, text: str) -> None:
        pass


def running_guest() -> Guest:
    """The QEMU of ``inv up``.

    Raises:
        BoxError: none runs.
    """
    guest_host()  # the one line that says so
    return Guest.load(GUEST)


def script(host: Host, text: str, *arguments: str) -> str:
    """Run a shell script as root, ended by its first failure; what it printed.

    Raises:
        DeployError: it failed.
    """
    return host.run(shlex.join(("sh", "-c", f"set -eu\n{text}", "bench", *arguments)))
