"""Install the programs that give a box its role in a pipeline and shut it off.

They do nothing until somebody says ``secure`` on the box, or ``fab -H HOST secure``.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import onbox, packages, services
from deploys.operations.onbox import ONBOX, OnboxFile

PACKAGES = ("nftables", "procps", "python3")

UNIT = "pipeline-secured.service"
HOME = "usr/lib/secure"
SECURE = f"/{HOME}/secure"
"""The program that secures the box."""
ASK = f"/{HOME}/ask"
"""The script that a box's user starts."""
FILES = (
    HOME,
    f"etc/systemd/system/{UNIT}",
    "etc/systemd/system/ssh.service.d",
    "etc/systemd/system/ssh.socket.d",
)


@deploy("Secure")
def secure() -> None:
    """Install the programs, and the unit that shuts a secured box off early in each boot."""
    packages.present(name="Install what shuts a box off", packages=PACKAGES)
    sources = onbox.files(name="Files of secure", sources=files())
    if sources.will_change:
        services.reloaded(name="Reload the drop-ins of sshd", units=())


def files() -> dict[str, OnboxFile]:
    """The files of ``secure``, by their paths on the box."""
    ask = (ONBOX.parent / "foruser" / "secure").read_bytes()
    return {**onbox.tree(*FILES), ASK: OnboxFile(ask, 0o755)}
