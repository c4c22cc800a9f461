"""The status page: what a box shows of itself on its port, to anybody."""

from __future__ import annotations

from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.operations import onbox
from deploys.operations.onbox import OnboxFile

HOME = "usr/lib/status-page"
FILES = (
    HOME,
    "etc/systemd/system/status-page.service",
    "etc/systemd/system/status-page.socket",
    "etc/systemd/system/status-page-gather.service",
    "etc/systemd/system/status-page-gather.timer",
)
# By which the box reads its own state in the very words of `status`. They need no libraries, and
# come with the scripts, so that the two are always of one commit.
_MODULES = (
    "__init__.py",
    "facts/__init__.py",
    "facts/host_state.py",
    "facts/mapper.py",
    "facts/status.py",
)


@deploy("Status page")
def status_page() -> None:
    """The socket, its server, and the timer that writes what is served."""
    onbox.files(name="Install the status page", sources=sources())


def sources() -> dict[str, OnboxFile]:
    """The files of the page, by their paths on the box."""
    package = Path(__file__).parents[1]
    modules = {
        f"/{HOME}/deploys/{name}": OnboxFile((package / name).read_bytes()) for name in _MODULES
    }
    return {**onbox.tree(*FILES), **modules}
