"""Have packages installed, asking the archive only when one is missing."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages

# Waits for another apt, as the daily update that a fresh host runs at its first boot.
# --fix-broken: an installation that a power cut ended must not stop this one.
_SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg --configure -a --force-confdef --force-confold
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold --fix-broken --no-install-recommends install "$@"
"""

# update-initramfs reads its settings as shell: the last word wins. dracut's hook heeds INITRD.
_KEEP_INITRDS = """
export INITRD=No
conf=/etc/initramfs-tools/update-initramfs.conf
if [ -e "$conf" ]; then
    [ -e "$conf.before" ] || cp -a "$conf" "$conf.before"
    trap 'mv "$conf.before" "$conf"' EXIT
    echo update_initramfs=no >>"$conf"
fi
"""


@operation()
def present(
    packages: Sequence[str],
    keep_initrds: bool = False,
    versions: Mapping[str, str] | None = None,
) -> Generator[StringCommand, None, None]:
    """Have ``packages`` installed, without what they merely recommend.

    Of those in ``versions`` that version, be it older than what is there; of others any.

    With nothing missing no network is needed, and none is asked. With ``keep_initrds`` the
    host's initrds stay as they are, whatever a package would have in them.
    """
    pins, installed = versions or {}, host.get_fact(DebPackages)
    missing = [
        f"{name}={pins[name]}" if name in pins else name
        for name in sorted(set(packages))
        if name not in installed or pins.get(name, "") not in ("", *installed[name])
    ]
    if missing:
        options = ["--allow-downgrades"] if pins else []
        script = (_KEEP_INITRDS if keep_initrds else "") + _SCRIPT
        yield StringCommand(shlex.join(("sh", "-c", script, "install", *options, *missing)))
