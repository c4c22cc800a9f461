"""One row of the stack: where a part comes from, and exactly which of it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploys.settings.names import PACKAGE
from deploys.settings.quantities import shown
from deploys.settings.urls import url_fault

Source = Literal["git", "apt", "pip", "file", "none"]

_PACKAGES = re.compile(rf"{PACKAGE}( +{PACKAGE})*")
_DEBIAN_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]*")
_PROJECT, _PROJECT_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), re.compile(r"[0-9a-z.+!]+")
_COMMIT, _SHA256 = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}"), re.compile(r"[0-9a-f]{64}")
# As in runsetup: nothing that git or ssh would take for an option or a helper program.
_URL = re.compile(r"(git|https?|ssh)://[A-Za-z0-9\[][][A-Za-z0-9._~:/@+,=-]*")
_PATH = re.compile(r"/?[A-Za-z0-9._~+-]+(/[A-Za-z0-9._~+-]+)*")


class Part(BaseModel):
    """One row: where a part comes from, and exactly which version of it.

    ``location`` is, for apt, names of packages; for pip, a project's name; for git and file, what
    follows ``setup.hostname`` and a slash, or a full address: a URL or an absolute path. A file
    without a location is part of this checkout. ``version`` is that of a package or project, or
    a git commit; ``sha256`` is that of the archive, for pip and file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source = Field(description="where the part comes from")
    location: str = Field(
        "",
        max_length=400,
        description="for apt: names of Debian packages, separated by blanks; for pip: name of "
        "the project; for git and file: what follows setup.hostname, or a full URL or path",
    )
    version: str = Field(
        "",
        max_length=100,
        description="for apt and pip: the exact version, or empty; for git: the whole commit",
    )
    sha256: str = Field("", description="for pip and file: SHA-256 of the archive of the sources")

    @model_validator(mode="after")
    def _check(self) -> Part:
        fault = _FAULTS[self.source](self)
        if fault:
            raise ValueError(fault)
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is part of the checkout that makes the box."""
        return self.source == "file" and not self.location

    @property
    def is_relative(self) -> bool:
        """Whether its location is relative to ``setup.hostname``."""
        named = self.source in ("git", "file") and bool(self.location)
        return named and not self.location.startswith("/") and "://" not in self.location

    def address(self, hostname: str) -> str:
        """The URL or path of a part that comes from git or from a file."""
        return f"{hostname.rstrip('/')}/{self.location}" if self.is_relative else self.location


def _none(part: Part) -> str:
    return (
        "source none takes no location, version or sha256"
        if _has_any(part, "location", "version")
        else ""
    )


def _apt(part: Part) -> str:
    if not _PACKAGES.fullmatch(part.location):
        return f"location {shown(part.location)}: write the names of Debian packages"
    several = " " in part.location
    if part.version and (several or not _DEBIAN_VERSION.fullmatch(part.version)):
        return f"version {shown(part.version)}: give that of the one package in location, or none"
    return "sha256 is for pip and file; apt checks its own hashes" if part.sha256 else ""


def _git(part: Part) -> str:
    fault = _location_fault(part.location, url=True)
    if fault:
        return fault
    if not _COMMIT.fullmatch(part.version):
        return "version: git needs the whole commit, 40 or 64 hexadecimal digits; a branch moves"
    return "sha256 is for pip and file; git checks its commit" if part.sha256 else ""


def _pip(part: Part) -> str:
    if not _PROJECT.fullmatch(part.location):
        return f"location {shown(part.location)}: write a project's name"
    if not (part.version or part.sha256):
        return ""  # the lock file has both
    if not (_PROJECT_VERSION.fullmatch(part.version) and _SHA256.fullmatch(part.sha256)):
        return "pip needs both version and sha256 of its sources, or neither to use the lock file"
    return ""


def _file(part: Part) -> str:
    if part.is_own:
        return "a file needs a location" if _has_any(part, "version") else ""
    if part.version:
        return "a file has no version: its sha256 says which it is"
    if not _SHA256.fullmatch(part.sha256):
        return "sha256: a file needs 64 hexadecimal digits"
    return _location_fault(part.location, url=False)


_FAULTS = {"none": _none, "apt": _apt, "git": _git, "pip": _pip, "file": _file}


def _has_any(part: Part, *names: str) -> bool:
    return bool(part.sha256) or any(getattr(part, name) for name in names)


def _location_fault(location: str, *, url: bool) -> str:
    if fault := url_fault(location):
        return f"location: {fault}"
    plain = _PATH.fullmatch(location) or (url and _URL.fullmatch(location))
    words = re.split(r"[/@]+", location)
    if plain and not any(word.startswith("-") or word in (".", "..") for word in words):
        return ""
    takes = "a URL (git, http, https or ssh), a path" if url else "a path"
    return f"location {shown(location)}: write {takes} or a name, without spaces and '..'"
