"""The fact about packages that this project built and a host has."""

from __future__ import annotations

from pyinfra.api.facts import FactBase

SOURCE_DIGEST = "Pipeline-Source-Digest"
"""The control field with a digest of the package's sources and of how they were built."""
ORIGIN = "Pipeline-Origin"
"""The control field with the sources' origin: ``git:COMMIT``, ``pip:SHA256``, ``file:...``."""


class SourceDigests(FactBase[dict[str, str]]):
    """The installed packages that this project built, each with its source digest."""

    default = dict

    def command(self) -> str:
        fields = f"${{Package}} ${{db:Status-Status}} ${{{SOURCE_DIGEST}}}\\n"
        return f"dpkg-query -W -f='{fields}' 'pipeline-*' 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, str]:
        rows = (line.split() for line in output)
        return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}
