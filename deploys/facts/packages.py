"""The packages of our making that a host has."""

from __future__ import annotations

from pyinfra.api.facts import FactBase

SOURCE_DIGEST = "Pipeline-Source-Digest"
"""The field of a package's control file that says what it was built from, and how."""
ORIGIN = "Pipeline-Origin"
"""The field that says where the sources are from: ``git:COMMIT``, ``pip:SHA256``, ``file:...``."""


class SourceDigests(FactBase[dict[str, str]]):
    """The installed packages that were built by this project, each with its source digest."""

    def command(self) -> str:
        fields = f"${{Package}} ${{db:Status-Status}} ${{{SOURCE_DIGEST}}}\\n"
        return f"dpkg-query -W -f='{fields}' 'pipeline-*' 2>/dev/null || true"

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: list[str]) -> dict[str, str]:
        rows = (line.split() for line in output)
        return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}
