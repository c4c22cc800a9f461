"""The catalog of a box's versions for Vagrant, and the checksums of the packed files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploys.errors import BoxError, PreflightError

ARCHITECTURE = "amd64"
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A box for one provider: its URL and its SHA-256."""

    provider: str
    url: str
    checksum: str


def read(path: Path, name: str) -> dict[str, Any]:
    """The catalog in a file; an empty one of this name if there is no file.

    Raises:
        PreflightError: the file is no catalog, or that of another box.
    """
    try:
        catalog = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {"name": name, "versions": []}
    except (OSError, ValueError) as error:
        raise PreflightError(f"{path} is no Vagrant catalog: {error}") from error
    try:
        known = catalog["name"]
        for version in catalog["versions"]:
            _ = version["version"], [provider["name"] for provider in version["providers"]]
    except (LookupError, TypeError) as error:
        raise PreflightError(f"{path} is no Vagrant catalog") from error
    if known != name:
        raise PreflightError(f"{path} is the catalog of {known}, not of {name}")
    return dict(catalog)


def merged(
    catalog: Mapping[str, Any], version: str, entries: Sequence[Entry], *, force: bool
) -> dict[str, Any]:
    """The catalog with the entries added.

    Raises:
        BoxError: it has this version with other content, and ``force`` is not set.
    """
    versions = [dict(each) for each in catalog["versions"]]
    found = next((each for each in versions if each["version"] == version), None)
    if found is None:
        found = {"version": version, "providers": []}
        versions.append(found)
    providers = {each["name"]: each for each in found["providers"]}
    for entry in entries:
        before = providers.get(entry.provider, {}).get("checksum", entry.checksum)
        if before != entry.checksum and not force:
            raise BoxError(_other(f"{entry.provider} box", version))
        providers[entry.provider] = {
            "name": entry.provider,
            "url": entry.url,
            "checksum_type": "sha256",
            "checksum": entry.checksum,
            "architecture": ARCHITECTURE,
            "default_architecture": True,
        }
    found["providers"] = list(providers.values())
    return {**catalog, "versions": versions}


def as_json(catalog: Mapping[str, Any]) -> str:
    """The catalog as the text of its file."""
    return json.dumps(catalog, indent=1, ensure_ascii=False) + "\n"


def read_sums(path: Path) -> dict[str, str]:
    """The sums in a SHA256SUMS file, by file name; none if there is no such file.

    Raises:
        PreflightError: the file is something else.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PreflightError(f"{path} holds no SHA-256 sums: {error}") from error
    found = [_SUM.fullmatch(line) for line in lines]
    if None in found:
        raise PreflightError(f"{path} holds no SHA-256 sums")
    return {each[2]: each[1] for each in found if each}


def merged_sums(
    before: Mapping[str, str], made: Mapping[str, str], version: str, *, force: bool
) -> dict[str, str]:
    """The sums, with those of new files added.

    Raises:
        BoxError: a file had other content before, and ``force`` is not set.
    """
    for name, checksum in made.items():
        if before.get(name, checksum) != checksum and not force:
            raise BoxError(_other(name, version))
    return {**before, **made}


def as_sums(sums: Mapping[str, str]) -> str:
    """The text that ``sha256sum --check`` reads."""
    return "".join(f"{checksum}  {name}\n" for name, checksum in sorted(sums.items()))


def _other(what: str, version: str) -> str:
    return (
        f"there is a {what} of version {version} already, with other content: "
        "give a new --box-version, or --force to replace it"
    )
