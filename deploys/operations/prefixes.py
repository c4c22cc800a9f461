"""Take away what boxes had of the stack before it was packages: prefixes in /opt/pipeline."""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.onbox import Entries

_FOLDER = "/opt/pipeline"
NAMES = ("ase", "kimpy", "lammps", "openkim-api", "openkim-kimcalculator-ase")
# The prefixes last: by them the next run knows that there is something left.
_SCRIPT = """
set -eu
for name; do rm -f /usr/local/lib/python3.*/dist-packages/"$name".pth; done
for link in /usr/local/bin/lmp /usr/local/bin/kim-api-collections-management; do
    case $(readlink "$link" || :) in /opt/pipeline/*) rm "$link" ;; esac
done
if [ -e /etc/ld.so.conf.d/00-openkim-api.conf ]; then
    rm /etc/ld.so.conf.d/00-openkim-api.conf
    ldconfig
    rm -f /var/cache/ldconfig/aux-cache
fi
for name; do rm -rf /opt/pipeline/"$name"-* /opt/pipeline/"$name"; done
"""


@operation()
def no_prefixes() -> Generator[StringCommand, None, None]:
    """Have no part of the stack beside dpkg: no prefix, and nothing that leads to one."""
    there = host.get_fact(Entries, folder=_FOLDER)
    found = [each for each in NAMES if any(f"{name}-".startswith(f"{each}-") for name in there)]
    if found:
        yield StringCommand(shlex.join(("sh", "-c", _SCRIPT, "prefixes", *NAMES)))
