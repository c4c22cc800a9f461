"""Remove the stack that older versions put into prefixes in /opt/pipeline, not into packages."""

from __future__ import annotations

import shlex

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.onbox import Entries
from deploys.operations import Commands

_FOLDER = "/opt/pipeline"
NAMES = ("ase", "kimpy", "lammps", "openkim-api", "openkim-kimcalculator-ase")
# The prefixes are removed last: by them a later run sees that this one broke off.
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
def no_prefixes() -> Commands:
    """Remove every prefix, and the links and settings that point to one."""
    there = host.get_fact(Entries, folder=_FOLDER)
    found = [each for each in NAMES if any(f"{name}-".startswith(f"{each}-") for name in there)]
    if found:
        yield StringCommand(shlex.join(("sh", "-c", _SCRIPT, "prefixes", *NAMES)))
