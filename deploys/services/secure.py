"""Install the programs that give a box its role in a pipeline and shut it off.

They do nothing until somebody says ``secure`` on the box, or ``fab -H HOST secure``.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra.api.deploy import deploy

from deploys.operations import onbox, packages, services
from deploys.operations.onbox import ONBOX, OnboxFile

PACKAGES = ("iproute2", "nftables", "procps", "python3")

UNIT = "pipeline-secured.service"
HOME = "usr/lib/secure"
SECURE = f"/{HOME}/secure"
"""The program that secures the box."""
ASK = f"/{HOME}/ask"
"""The script that a box's user starts."""
GENERATOR = "/etc/systemd/system-generators/systemd-ssh-generator"
"""systemd's, since 256: it makes sockets of sshd, also over vsock, which no firewall sees."""
LLMNR = "etc/systemd/resolved.conf.d/secured.conf"
_FILES = (HOME, LLMNR, f"etc/systemd/system/{UNIT}")

# /usr/lib/secure/lock makes /run/secured in this boot. The reset leaves "golden" in maintenance. Of
# conditions with "|" one is enough.
_SSHD = "ConditionPathExists=!/run/secured"
_LOGIN = "ConditionPathExists=|!/run/secured\nConditionPathExists=|/run/resnap/golden"
# These can start before a disk is mounted. The kernel's argument is there from the beginning.
_RESCUE = "ConditionKernelCommandLine=|!secured\nConditionPathExists=|/run/resnap/golden"
# A box that is not secured has the unit too: there its conditions fail, which is no failure.
_NETWORK = f"Requires={UNIT}\nAfter={UNIT}"
DROP_INS: Mapping[str, str] = {
    "ssh.service": _SSHD,
    "ssh.socket": _SSHD,
    "sshd-.socket": _SSHD,  # all whose names begin so: those of the generator
    "getty@.service": _LOGIN,
    "serial-getty@.service": _LOGIN,
    "console-getty.service": _LOGIN,
    "container-getty@.service": _LOGIN,
    "debug-shell.service": _RESCUE,
    "emergency.service": _RESCUE,
    "rescue.service": _RESCUE,
    "systemd-networkd.service": _NETWORK,
    "networking.service": _NETWORK,  # ifupdown's, as the next
    "ifup@.service": _NETWORK,
    "NetworkManager.service": _NETWORK,
    "dhcpcd.service": _NETWORK,
}
"""What a secured box adds to units that open a shell or set up a network, by the unit's name."""


@deploy("Secure")
def secure() -> None:
    """Install the programs, and the unit that shuts a secured box off early in each boot."""
    packages.present(name="Install what shuts a box off", packages=PACKAGES)
    sources = onbox.files(name="Files of secure", sources=files())
    onbox.linked(name="No sockets of sshd by systemd", path=GENERATOR, target="/dev/null")
    if sources.will_change:
        services.reloaded(name="Reload the drop-ins of secure", units=())


def files() -> dict[str, OnboxFile]:
    """The files of ``secure``, by their paths on the box."""
    ask = (ONBOX.parent / "foruser" / "secure").read_bytes()
    drop_ins = {
        f"/etc/systemd/system/{unit}.d/secured.conf": OnboxFile(f"[Unit]\n{lines}\n".encode())
        for unit, lines in DROP_INS.items()
    }
    return {**onbox.tree(*_FILES), ASK: OnboxFile(ask, 0o755), **drop_ins}
