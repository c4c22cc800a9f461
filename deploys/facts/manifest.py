"""The fact that a manifest is made from: system, packages and libraries of a box."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field

from pyinfra.api.facts import FactBase

from deploys.facts.host_state import by_name, in_turn
from deploys.facts.packages import ORIGIN

_PARTS = {
    "os": "cat /etc/os-release",
    "release": "cat /etc/debian_version",
    # The manifest says when promote kept changes that were made by hand. No package says so.
    "promoted": "cat /etc/pipeline/manifest.json",
    "packages": "dpkg-query -W "
    f"-f='${{binary:Package}} ${{Version}} ${{db:Status-Status}} ${{{ORIGIN}}}\\n'",
}


@dataclass(frozen=True)
class System:
    """The distribution of a box, its packages and its Python libraries.

    Attributes:
        os: id, version and codename of the distribution.
        packages: the version of each installed package.
        python: where the link of the Python libraries points.
        built: the packages that this project built. Each has its ``version``, its ``source`` and
            the source's ``commit`` or ``sha256``.
        promoted: when a snapshot was promoted to be the golden root, in seconds since 1970.
    """

    os: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    python: str = ""
    built: dict[str, dict[str, str]] = field(default_factory=dict)
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
    """The :class:`System` of a host. ``python`` is the path of the Python libraries' link."""

    default = System

    def command(self, python: str) -> str:
        return in_turn({**_PARTS, "python": f"readlink -- {shlex.quote(python)}"})

    def process(self, output: list[str]) -> System:
        parts = by_name(output, (*_PARTS, "python"))
        release = dict(line.split("=", 1) for line in parts["os"] if "=" in line)
        names = {"ID": "id", "VERSION_ID": "version_id", "VERSION_CODENAME": "codename"}
        system = {
            name: shlex.split(release[key])[0] for key, name in names.items() if release.get(key)
        }
        if parts["release"]:
            system["release"] = parts["release"][0]
        rows = (line.split() for line in parts["packages"])
        packages = [words for words in rows if len(words) > 2 and words[2] == "installed"]
        return System(
            os=system,
            packages={words[0]: words[1] for words in packages},
            python=parts["python"][0] if parts["python"] else "",
            built={
                words[0].partition(":")[0]: {"version": words[1], **_origin(words[3])}
                for words in packages
                if len(words) > 3
            },
            promoted=_promoted("".join(parts["promoted"])),
        )


def _origin(text: str) -> dict[str, str]:
    source, _, name = text.partition(":")
    return {"source": source, "commit" if source == "git" else "sha256": name}


def _promoted(manifest: str) -> tuple[int, ...]:
    """The times in the system's present manifest; empty if that is missing or broken."""
    try:
        return tuple(int(when) for when in json.loads(manifest).get("promoted", ()))
    except ValueError:
        return ()
