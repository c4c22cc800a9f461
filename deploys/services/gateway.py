"""Set up the gateway of a pipeline: queue, accounts, items and results.

``/persistent/gateway`` has all files that must outlive a reset. The paths that boxes use are links
to it. If ``/persistent`` is not mounted, the links lead nowhere, so nothing is written to a root
that a reset empties.
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy
from pyinfra.context import host
from pyinfra.operations import files, server

from deploys.facts.onbox import SshdKnows
from deploys.operations import onbox, packages, services
from deploys.operations.onbox import OnboxFile, tree
from deploys.settings import Gateway
from deploys.settings.paths import STATE

PACKAGES = (
    *("e2fsprogs", "openssh-server", "postgresql", "procps", "python3", "rsync", "socat"),
    "util-linux",
)
UNITS = (
    *("gateway-owners.service", "pipeline-database.service", "pipeline-guard.service"),
    "pipeline-keys.socket",
)

OWNERS = "/usr/lib/gateway/owners"
"""The program that makes, removes and lists the accounts of box owners."""
BACKUP = "/usr/lib/gateway/backup"
"""The program that prints what a gateway must not lose, and takes it in again."""
_FILES = (
    "etc/ssh/sshd_config.d/gateway.conf",
    "etc/systemd/system/gateway-owners.service",
    "etc/systemd/system/pipeline-database.service",
    "etc/systemd/system/pipeline-guard.service",
    "etc/systemd/system/pipeline-keys.socket",
    "etc/systemd/system/pipeline-keys@.service",
    "usr/lib/gateway",
)
_OLD_QUEUE = "/etc/systemd/system/pipeline-box.target.wants/beanstalkd.service"
_LINKS = {"/srv/pipeline": f"{STATE}/srv"}
# Mode and owner. sshd wants that only root can write to the folders above an owner's files. The
# program /usr/lib/gateway/room makes those of queue and results.
_FOLDERS: dict[str, tuple[str | None, str | None]] = {
    STATE: ("755", "root"),
    f"{STATE}/owners": ("755", "root"),
    f"{STATE}/queue": (None, None),
    f"{STATE}/srv": ("755", "root"),
    f"{STATE}/srv/items": ("755", "root"),
    f"{STATE}/srv/results": ("755", "root"),
}


@deploy("Gateway")
def gateway(settings: Gateway) -> None:
    """Put queue, accounts and stores on a gateway. ``/persistent`` must be mounted."""
    packages.present(name="Install what a gateway needs", packages=PACKAGES)
    server.group(name="Group of box owners", group="pipeline-owners", system=True)
    server.user(  # noqa: S604 - the name of a program, no shell is started
        name="User pipeline",
        user="pipeline",
        home="/srv/pipeline",
        ensure_home=False,
        shell="/bin/sh",
        system=True,
        password="*",  # noqa: S106 - no password fits (crypt(5))
    )
    for path, (mode, owner) in _FOLDERS.items():
        files.directory(name=f"Folder {path}", path=path, mode=mode, user=owner, group=owner)
    for path, target in _LINKS.items():
        onbox.linked(name=f"{path} in /persistent", path=path, target=target)
    penalties = ("etc/ssh/sshd_config.d/gateway-penalties.conf",)
    known = penalties if host.get_fact(SshdKnows, option="PerSourcePenalties") else ()
    rooms = f"# Sizes of rooms, in bytes.\nQUOTA={settings.quota}\nQUEUE={settings.queue}\n"
    sources = onbox.files(
        name="Files of a gateway",
        sources={**tree(*_FILES, *known), "/etc/default/gateway": OnboxFile(rooms.encode())},
    )
    # Debian's own cluster, and the queue of a gateway of an older version
    others = ("postgresql.service", "beanstalkd.service", "beanstalkd.socket")
    services.masked(name="Mask other databases and queues", units=others)
    # which a trial would find dead
    files.link(name="No queue of an older version", path=_OLD_QUEUE, present=False)
    if sources.will_change:
        units = ("gateway-owners.service", "pipeline-database.service", "ssh.service")
        services.reloaded(name="Reload what changed", units=units)
