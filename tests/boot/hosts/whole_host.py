"""What a host is, file by file: to compare it before it is a box and after it was given back."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.boot.lab.box import Box

# The root, /boot and the EFI system partition, each without what is mounted below it.
_FILES = """
set -eu
for at in / /boot /boot/efi; do
    [ "$at" = / ] || mountpoint -q "$at" || continue
    find "$at" -xdev -mindepth 1 -printf '%p\\t%y %m %U:%G %l\\n'
    find "$at" -xdev -type f -exec sha256sum {} + | sed 's/^\\([^ ]*\\)  \\(.*\\)/\\2\\t\\1/'
done
"""
# What a system that runs changes by itself, and what apt keeps of any installation.
EXCEPTIONS = {
    r"/var/log/.*": "logs",
    r"/(var/)?tmp/.*": "temporary files",
    r"/var/cache/.*": "caches, of apt, debconf and ldconfig",
    r"/var/lib/apt/(lists|periodic|mirrors)/.*": "apt's lists of the archive, which it fetched",
    r"/var/lib/systemd/(random-seed|timers/.*|timesync/.*|catalog/.*)": "of each boot",
    r"/var/lib/private/.*": "of each boot",
    r"/etc/ld\.so\.cache": "made anew by every installation, in the order of its folders",
    r"/var/lib/dpkg/(status|status-old|available|lock.*|triggers/.*|diversions-old)": (
        "dpkg writes it anew; the packages are compared instead"
    ),
    r"/var/lib/apt/extended_states": "apt writes it anew, in another order",
    # the image's volume group was made without it
    r"/etc/lvm/(archive|backup)(/debian-vg.*)?": "LVM's history of the host's own volume group",
    r"/var/lib/logrotate/status": "of each day",
}


def whole(box: Box) -> dict[str, str]:
    """Each path with its kind, mode, owner, target and content, and each package."""
    found: dict[str, str] = {}
    for line in box.succeed(_FILES).splitlines():
        path, _, said = line.partition("\t")
        if not any(re.fullmatch(pattern, path) for pattern in EXCEPTIONS):
            found[path] = f"{found.get(path, '')} {said}".strip()
    packages = "dpkg-query --show --showformat='${Package} ${Version} ${db:Status-Abbrev}\\n'"
    for line in (*box.succeed(packages).splitlines(), *box.succeed("apt-mark showauto").split()):
        found[f"package {line}"] = "there"
    return found


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A line for each path that is not what it was."""
    return [
        f"{path}: {before.get(path, 'not there')} -> {after.get(path, 'not there')}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]
