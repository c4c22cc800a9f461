"""Take from a root what belongs to one machine, or to its making."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

# An empty machine-id is filled in at boot; a missing one would make each boot a first boot,
# which enables and disables units by their presets.
_SCRIPT = """
set -eu
rm -f /etc/ssh/ssh_host_* /etc/dpkg/dpkg.cfg.d/99mmdebstrap
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
rm -rf /var/cache/ldconfig/* /var/cache/debconf/*-old /var/lib/dpkg/*-old
rm -rf /tmp/* /tmp/.[!.]* /var/tmp/* /root/.cache /root/.ansible
rm -f /root/.bash_history /home/*/.bash_history
find /var/log -type f ! -name README -delete
# Younger than /usr: no caches to renew at the first boot.
touch /etc/.updated /var/.updated
"""


@operation()
def sealed() -> Generator[StringCommand, None, None]:
    """Remove keys, histories, caches, logs and the machine's ID; made anew where needed."""
    yield StringCommand(shlex.join(("sh", "-c", _SCRIPT, "seal")))
