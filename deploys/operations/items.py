"""Have KIM items where the pipeline looks for them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.onbox import Entries

# An item of a name is one version of it for ever: what is there stays. Hidden until it is whole.
_COPY = """
set -eu
umask 022
part=$2/.part-provision
for item in "$1"/*; do
    [ ! -e "$2/${item##*/}" ] || continue
    rm -rf "$part"
    cp -RP "$item" "$part"
    sync -f "$part"
    mv -T "$part" "$2/${item##*/}"
done
"""


@operation()
def items(names: Collection[str], source: str, target: str) -> Generator[StringCommand, None, None]:
    """Have the items ``names``, which lie in the folder ``source`` by then, in ``target`` too."""
    had: set[str] = host.get_fact(Entries, folder=target)
    if set(names) - had:
        yield StringCommand(shlex.join(("sh", "-c", _COPY, "items", source, target)))
