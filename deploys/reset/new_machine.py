"""Set up a new machine: network, host name, machine ID, boot menu, host keys and user."""

from __future__ import annotations

from pyinfra.api.deploy import deploy
from pyinfra.operations import files, server

from deploys.operations import onbox, services
from deploys.operations.onbox import ONBOX, OnboxFile, tree
from deploys.services.secure import ASK, GENERATOR
from deploys.settings import Image

_FILES = (
    "etc/default/grub.d/machine.cfg",
    "etc/hostname",
    "etc/hosts",
    "etc/modprobe.d/machine.conf",
    "etc/ssh/sshd_config.d/pipeline.conf",
    "etc/systemd/network",
    "etc/systemd/system/host-keys.service",
    "etc/systemd/system/keep-machine-id.service",
    "etc/systemd/system/serial-getty@.service.d",
    "usr/lib/host-keys",
    "usr/lib/machine-id",
)
_ENABLED = ("keep-machine-id.service", "ssh.service", "systemd-networkd.service")
# Units that a box does not need.
_MASKED = (
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "grub-common.service",
    "modprobe@drm.service",  # logind waits for it; a box needs no screen
)
_KEYS = ONBOX.parent / "vagrant" / "insecure.pub"
# crypt(3) of "vagrant". The salt is fixed, as with a random one no two builds would be the same.
_CRYPTED = (
    "$6$vagrantbox$yyZcFoP2stHwrL9eMiJznn2afpxaEqzGT4jms13DBXvJhR0V5G3gtc1hqbCnjCzz2N7"
    "/6FpE6q8kiScE0LTGh0"
)


@deploy("Machine")
def machine(image: Image, fstab: str = "") -> None:
    """Make a system, of which only the packages are installed, a machine that Vagrant can use.

    Args:
        image: the settings. Its user gets Vagrant's password and insecure keys, and sudo.
        fstab: the new content of ``/etc/fstab``; empty: it stays as it is.
    """
    sources = tree(*_FILES)
    if fstab:
        sources["/etc/fstab"] = OnboxFile(fstab.encode())
    rule = f"{image.user} ALL=(ALL) NOPASSWD: ALL\n"
    sources[f"/etc/sudoers.d/{image.user}"] = OnboxFile(rule.encode(), 0o440)
    onbox.files(name="Files of the machine", sources=sources)
    server.user(  # noqa: S604 - the name of a program, no shell is started
        name=f"User {image.user}",
        user=image.user,
        shell="/bin/bash",
        create_home=True,
        password=_CRYPTED,
        public_keys=str(_KEYS),
    )
    for name, target in {"shrink": "/usr/lib/pipeline/shrink", "secure": ASK}.items():
        files.link(
            name=f"Link {name} in the home of its user",
            path=f"/home/{image.user}/{name}",
            target=target,
        )
    for unit in _ENABLED:
        services.enabled(name=f"Enable {unit}", unit=unit)
    services.masked(name="Mask units that a box does not need", units=_MASKED)
    # For SSH over vsock it loads five modules. SSH over the network is enough.
    files.link(name="No SSH over vsock", path=GENERATOR, target="/dev/null")
