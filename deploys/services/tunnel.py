"""A box's way to its gateway: a tunnel to the queue, and what rsync takes to get there."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.operations import onbox, services
from deploys.operations.onbox import tree

UNIT = "pipeline-tunnel.service"
FILES = ("etc/pipeline/ssh_config", f"etc/systemd/system/{UNIT}")


@deploy("Tunnel")
def tunnel() -> None:
    """The tunnel's unit and its configuration; it rests until the box has a key."""
    sources = onbox.files(name="Files of the tunnel", sources=tree(*FILES))
    services.enabled(name=f"Enable {UNIT}", unit=UNIT)
    if sources.will_change:
        services.reloaded(name="Take up the tunnel", units=(UNIT,))
