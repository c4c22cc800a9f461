"""Install the tunnel from a box to its gateway's queue, and the SSH settings for rsync."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import onbox, services
from deploys.operations.onbox import tree

UNIT = "pipeline-tunnel.service"
_QUEUE = ("pipeline-queue.socket", "pipeline-queue@.service")
FILES = (
    "etc/pipeline/ssh_config",
    *(f"etc/systemd/system/{unit}" for unit in (UNIT, *_QUEUE)),
    "usr/lib/tunnel",
)


@deploy("Tunnel")
def tunnel() -> None:
    """Install the tunnel's unit and its settings. The tunnel starts when the box has a key."""
    sources = onbox.files(name="Files of the tunnel", sources=tree(*FILES))
    services.enabled(name=f"Enable {UNIT}", unit=UNIT)
    if sources.will_change:
        services.reloaded(name="Reload the tunnel", units=(UNIT,))
