"""Facts about packages: those that this project built, what is not whole, debconf's answers."""

from __future__ import annotations

import shlex

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


class Complaints(FactBase[list[str]]):
    """The installed packages that ``dpkg --audit`` complains of: no later work mends them.

    What an installation that was broken off left behind is not among them: the next one ends it.
    """

    default = list

    def command(self) -> str:
        names = "dpkg --audit | sed -n 's/^ \\([^ ]*\\) .*/\\1/p' | sort -u"
        fields = "'${binary:Package} ${db:Status-Status}\\n'"
        return f"{names} | xargs -r dpkg-query -W -f={fields}"

    def process(self, output: list[str]) -> list[str]:
        rows = (line.split() for line in output)
        return [row[0] for row in rows if row[1:] == ["installed"]]


class Answers(FactBase[dict[str, str] | None]):
    """debconf's answers to a package's questions; None if the package is not installed."""

    def command(self, package: str) -> str:
        name = shlex.quote(package)
        # debconf's own programs take seconds in an emulated guest
        lines = rf"'/^Name: {package}\//,/^$/{{/^\(Name\|Value\): /p}}'"
        return (
            f"! dpkg-query -W -f='${{db:Status-Status}}\\n' {name} 2>/dev/null | "
            f"grep -x installed || sed -n {lines} /var/cache/debconf/config.dat 2>/dev/null || true"
        )

    def process(self, output: list[str]) -> dict[str, str] | None:
        if not output:
            return None
        answers, name = {}, ""
        for line in output:
            kind, _, rest = line.partition(": ")
            if kind == "Name":
                name = rest
                answers[name] = ""
            elif kind == "Value":
                answers[name] = rest
        return answers
