"""The exact versions of packages that a manifest names, held against what an archive has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploys.errors import BoxError
from tasks.debian import apt
from tasks.debian.archive import Archive

Pins = Mapping[str, str]
_NAMED = 5  # in one line


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a box's manifest pins, as versions by packages' names: the archive's, and those built.

    A built one's version names its build, and so the sources and every tool of that.
    """

    packages: dict[str, str]
    built: dict[str, str] = field(default_factory=dict)


def read(file: Path) -> Manifest:
    """What a box's ``manifest.json`` pins.

    Raises:
        BoxError: it cannot be read, or is no manifest.
    """
    try:
        read = json.loads(file.read_text())
        packages, built = read["packages"], set(read.get("built", ()))
        versions = {str(name).partition(":")[0]: str(packages[name]) for name in packages}
        return Manifest(
            {name: versions[name] for name in versions if name not in built},
            {name: versions[name] for name in built},
        )
    except OSError as error:
        raise BoxError(f"manifest {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BoxError(f"{file} is no manifest of a box") from error


def require_available(pins: Pins, archive: Archive, folder: Path) -> None:
    """Require that an archive has all these versions.

    Raises:
        BoxError: it has not, or apt failed; the line says which are missing.
    """
    had = apt.versions(tuple(pins), archive, folder)
    gone = [f"{name} {pins[name]}" for name in sorted(pins) if pins[name] not in had.get(name, ())]
    if gone:
        raise BoxError(f"no longer to be had: {_listed(gone)}")


def require_same(pins: Pins, packages: Mapping[str, str]) -> None:
    """Require that what was installed is what the manifest names, no more and no less.

    Raises:
        BoxError: it is not; the line says what differs.
    """
    installed = {name.partition(":")[0]: version for name, version in packages.items()}
    differs = [
        f"{name} {installed.get(name, 'missing')}, not {pins.get(name, 'in the manifest')}"
        for name in sorted({*installed, *pins})
        if installed.get(name) != pins.get(name)
    ]
    if differs:
        raise BoxError(f"the packages are not the manifest's: {_listed(differs)}")


def _listed(lines: list[str]) -> str:
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
