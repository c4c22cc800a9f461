"""A host over SSH: check its key, run commands as root, reboot it and wait for it."""

from tasks.hosts.connection.reboots import Host

__all__ = ["Host"]
