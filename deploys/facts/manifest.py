"""What a box is made of, as it stands: system, packages, libraries."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pyinfra.api.facts import FactBase

_PARTS = {
    "os": "cat /etc/os-release",
    "release": "cat /etc/debian_version",
    "python": "readlink -- {python}",
    # What Python's packaging has for it: which wheel an installed package was unpacked from.
    "kimpy": "cat {kimpy}/kimpy-*.dist-info/direct_url.json && echo",
    # What was changed by hand, as promote knows of it, and no package says.
    "promoted": "cat /etc/pipeline/manifest.json",
    "packages": "dpkg-query -W -f='${{binary:Package}} ${{Version}} ${{db:Status-Status}}\\n'",
}


@dataclass(frozen=True)
class System:
    """The distribution, every installed package with its version, and the Python libraries.

    ``kimpy`` has its ``version`` and its ``wheel``'s sha256, where there is one; and, of sources
    that are not the index's, the ``commit`` or the archive's ``sha256``. ``promoted`` is when a
    snapshot, with what was changed in it, became the root, in seconds since 1970.
    """

    os: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    python: str = ""
    kimpy: dict[str, str] = field(default_factory=dict)
    promoted: tuple[int, ...] = ()

    @property
    def kernels(self) -> dict[str, str]:
        """The kernel packages among the packages."""
        return {
            name: version
            for name, version in self.packages.items()
            if name.startswith("linux-image-")
        }


class SystemState(FactBase[System]):
    """The :class:`System` of a host; the arguments are where two links lie on it.

    ``python`` is that of the Python libraries, ``kimpy`` that of kimpy.
    """

    def command(self, python: str, kimpy: str) -> str:
        places = {"python": shlex.quote(python), "kimpy": shlex.quote(kimpy)}
        parts = [
            f"echo @{name}; {{ {command.format(**places)}; }} 2>/dev/null || true"
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
            kimpy=_wheel("".join(parts["kimpy"])),
            promoted=_promoted("".join(parts["promoted"])),
        )


def _wheel(origin: str) -> dict[str, str]:
    """Version and sha256 of the wheel that a ``direct_url.json`` names; nothing for no text."""
    if not origin:
        return {}
    record = json.loads(origin)
    file = PurePosixPath(record["url"]).name
    wheel = record["archive_info"]["hashes"]["sha256"]
    return {"version": file.split("-")[1], "wheel": wheel, **record.get("built_from", {})}


def _promoted(manifest: str) -> tuple[int, ...]:
    """What the manifest that the system has says of it; nothing if it is missing or broken."""
    try:
        return tuple(int(when) for when in json.loads(manifest).get("promoted", ()))
    except ValueError:
        return ()
