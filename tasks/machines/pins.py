"""The exact versions of packages that a manifest names, held against what an archive has."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploys.errors import BoxError
from tasks.machines import shell
from tasks.machines.archive import Archive

Pins = Mapping[str, str]
_NAMED = 5  # in one line
_SIGNERS = "/etc/apt/trusted.gpg.d/"


def read(file: Path) -> dict[str, str]:
    """Package to version, of a box's ``manifest.json``.

    Raises:
        BoxError: it cannot be read, or is no manifest.
    """
    try:
        packages = json.loads(file.read_text())["packages"]
        return {str(name).partition(":")[0]: str(packages[name]) for name in packages}
    except OSError as error:
        raise BoxError(f"manifest {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BoxError(f"{file} is no manifest of a box") from error


def require_had(pins: Pins, archive: Archive, folder: Path) -> None:
    """Require that an archive has all these versions.

    Raises:
        BoxError: it has not, or apt failed; the line says which are missing.
    """
    had = _versions(tuple(pins), archive, folder)
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


def _versions(names: tuple[str, ...], archive: Archive, folder: Path) -> dict[str, set[str]]:
    """All versions of packages that an archive has, by apt with an empty system of its own."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="apt-") as name:
        root = Path(name)
        for part in ("etc", "state/lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True)
        (root / "status").touch()
        (root / "etc/sources.list").write_text("".join(f"{line}\n" for line in archive.lines))
        (root / "etc/apt.conf").write_text(
            "".join(f"{line}\n" for line in archive.options)
            + f'Dir::Etc "{root}/etc";\nDir::State "{root}/state";\nDir::Cache "{root}/cache";\n'
            + f'Dir::State::status "{root}/status";\nDir::Etc::trustedparts "{_SIGNERS}";\n'
            + 'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n'
        )
        config = {"APT_CONFIG": str(root / "etc/apt.conf"), "LC_ALL": "C"}
        shell.run(["apt-get", "-q", "update"], env=config, timeout=600)
        table = shell.run(["apt-cache", "madison", *names], env=config).stdout
    found: dict[str, set[str]] = {}
    for row in table.splitlines():
        package, version, _ = (cell.strip() for cell in row.split("|", 2))
        found.setdefault(package, set()).add(version)
    return found


def _listed(lines: list[str]) -> str:
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
