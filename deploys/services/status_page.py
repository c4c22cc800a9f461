"""Install the status page, which shows the state of a box to anybody."""

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
# With these modules the box reads its own state, and says it in the words of `status`. They need no
# libraries. They are installed with the scripts, so that both are always of one commit.
_MODULES = (
    "__init__.py",
    "facts/__init__.py",
    "facts/host_state.py",
    "facts/mapper.py",
    "facts/status.py",
)


@deploy("Status page")
def status_page() -> None:
    """Install the socket, its server, and the timer that writes the page's content."""
    onbox.files(name="Install the status page", sources=sources())


def sources() -> dict[str, OnboxFile]:
    """The files of the page, by their paths on the box."""
    package = Path(__file__).parents[1]
    modules = {
        f"/{HOME}/deploys/{name}": OnboxFile((package / name).read_bytes()) for name in _MODULES
    }
    return {**onbox.tree(*FILES), **modules}
