"""Have packages installed, asking the archive only when one is missing."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import apt

# Seconds to wait for another apt, as the daily update that a fresh host runs at its first boot.
_BUSY = 300
# --fix-broken: an installation that a power cut ended must not stop this one.
_INSTALL = f"--fix-broken -o DPkg::Lock::Timeout={_BUSY}"


@operation()
def present(packages: Sequence[str]) -> Generator[str | StringCommand, None, None]:
    """Have ``packages`` installed, of whatever version, without what they merely recommend.

    With nothing missing no network is needed, and none is asked.
    """
    installed = host.get_fact(DebPackages)
    missing = sorted(set(packages) - set(installed))
    if not missing:
        return
    yield "DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold"
    yield f"apt-get -q -o DPkg::Lock::Timeout={_BUSY} update"
    yield from apt.packages._inner(
        packages=missing, no_recommends=True, extra_install_args=_INSTALL
    )
