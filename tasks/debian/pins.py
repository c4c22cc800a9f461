"""Pins: the exact versions of packages in a manifest, compared with those of an archive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploys.errors import BoxError
from tasks.debian import apt
from tasks.debian.archive import Archive

Pins = Mapping[str, str]
_NAMED = 5  # packages that an error line names


@dataclass(frozen=True, slots=True)
class Manifest:
    """The versions in a box's manifest, by package: from the archive, and built by this project.

    The version of a built package identifies its build: the sources and all tools.
    """

    packages: dict[str, str]
    built: dict[str, str] = field(default_factory=dict)


def read(file: Path) -> Manifest:
    """Read the versions in a box's ``manifest.json``.

    Raises:
        BoxError: the file cannot be read, or is not a manifest.
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
        BoxError: some are missing (the line names them), or apt failed.
    """
    had = apt.versions(tuple(pins), archive, folder)
    gone = [f"{name} {pins[name]}" for name in sorted(pins) if pins[name] not in had.get(name, ())]
    if gone:
        raise BoxError(f"the archive no longer has {_listed(gone)}")


def require_same(pins: Pins, packages: Mapping[str, str]) -> None:
    """Require that the installed packages are exactly those of the manifest.

    Raises:
        BoxError: they differ; the line names the differences.
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
