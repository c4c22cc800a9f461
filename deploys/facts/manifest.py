"""What a box is made of, as it stands: system, packages, libraries."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from pyinfra.api.facts import FactBase

_PARTS = {
    "os": "cat /etc/os-release",
    "release": "cat /etc/debian_version",
    "python": "readlink -- {python}",
    "packages": "dpkg-query -W -f='${{binary:Package}} ${{Version}} ${{db:Status-Status}}\\n'",
}


@dataclass(frozen=True)
class System:
    """The distribution, every installed package with its version, and the Python libraries."""

    os: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    python: str = ""

    @property
    def kernels(self) -> dict[str, str]:
        """The kernel packages among the packages."""
        return {
            name: version
            for name, version in self.packages.items()
            if name.startswith("linux-image-")
        }


class SystemState(FactBase[System]):
    """The :class:`System` of a host; ``python`` is where the libraries' link lies on it."""

    def command(self, python: str) -> str:
        parts = [
            f"echo @{name}; {command.format(python=shlex.quote(python))} 2>/dev/null || true"
            for name, command in _PARTS.items()
        ]
        return "; ".join(parts)

    @staticmethod
    def default() -> System:
        return System()

    def process(self, output: list[str]) -> System:
        parts: dict[str, list[str]] = {name: [] for name in _PARTS}
        current: list[str] = []
        for line in output:
            if line.startswith("@"):
                current = parts[line[1:]]
            else:
                current.append(line)
        release = dict(line.split("=", 1) for line in parts["os"] if "=" in line)
        names = {"ID": "id", "VERSION_ID": "version_id", "VERSION_CODENAME": "codename"}
        system = {
            name: shlex.split(release[key])[0] for key, name in names.items() if release.get(key)
        }
        if parts["release"]:
            system["release"] = parts["release"][0]
        packages = [line.split() for line in parts["packages"]]
        return System(
            os=system,
            packages={
                words[0]: words[1]
                for words in packages
                if len(words) == 3 and words[2] == "installed"
            },
            python=parts["python"][0] if parts["python"] else "",
        )
