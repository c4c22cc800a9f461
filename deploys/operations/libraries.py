"""Have the dynamic linker know a library."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.libraries import LoadedFrom

# What ldconfig remembers for its next run is of this disk's own blocks and times.
RENEW = "ldconfig && rm -f /var/cache/ldconfig/aux-cache"


@operation()
def cached(library: str, folder: str) -> Generator[StringCommand, None, None]:
    """Have programs that load ``library`` get that of ``folder``, which ld.so.conf names."""
    if host.get_fact(LoadedFrom, library=library) != folder:
        yield StringCommand(RENEW)
