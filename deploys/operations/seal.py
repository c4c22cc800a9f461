"""Remove from a root what belongs to one machine or one user, and what its making left."""

from __future__ import annotations

import shlex

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from deploys.operations import Commands

_TIDY = """
set -eu
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
rm -rf /var/cache/ldconfig/* /var/cache/debconf/*-old /var/lib/dpkg/*-old
rm -rf /tmp/* /tmp/.[!.]* /var/tmp/* /var/tmp/.[!.]* /var/crash/* /var/lib/systemd/coredump/*
for home in /root /home/*; do
    rm -rf "$home"/.cache "$home"/.ansible "$home"/.*_history "$home"/.lesshst "$home"/.viminfo
done
find /var/log -type f ! -name README -delete
"""
# systemd fills in an empty machine-id at boot. Without the file each boot would be a first boot,
# which enables and disables units by their presets.
_IDENTITY = """
rm -f /etc/ssh/ssh_host_* /etc/dpkg/dpkg.cfg.d/99mmdebstrap
: >/etc/machine-id
[ ! -e /boot/grub/grubenv ] || grub-editenv /boot/grub/grubenv unset machine_id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
rm -rf /var/log/journal/* /var/lib/dhcp/* /var/lib/systemd/timers/*
# Newer than /usr, so that the first boot renews no caches (systemd-update-done.service(8)).
touch /etc/.updated /var/.updated
"""
_LOGINS = "rm -rf /root/.ssh /home/*/.ssh"


@operation()
def sealed() -> Commands:
    """Remove host keys, histories, caches, logs and the machine ID; a boot makes new ones."""
    yield _script(_TIDY + _IDENTITY)


@operation()
def cleaned() -> Commands:
    """Remove histories, caches, logs and temporary files; host keys and machine ID stay."""
    yield _script(_TIDY)


@operation()
def no_ssh_keys() -> Commands:
    """Remove the SSH folders of all users, with authorized keys and private keys."""
    yield _script(_LOGINS)


def _script(script: str) -> StringCommand:
    return StringCommand(shlex.join(("sh", "-c", script, "seal")))
