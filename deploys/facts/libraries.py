"""What the dynamic linker would load."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

from pyinfra.api.facts import FactBase

_ENTRY = re.compile(r"\s*(\S+) \(.*\) => (/\S+)")


class LoadedFrom(FactBase[str | None]):
    """The folder from which programs get ``library``, a soname; None where the linker has none."""

    def command(self, library: str) -> str:
        # Not in every user's path, and it fails where there is no cache yet.
        return f"PATH=$PATH:/sbin ldconfig -p 2>/dev/null | grep -F {shlex.quote(library)} || true"

    def process(self, output: list[str]) -> str | None:
        found = (_ENTRY.fullmatch(line) for line in output)
        # Of several the first is taken.
        return next((str(PurePosixPath(entry[2]).parent) for entry in found if entry), None)
