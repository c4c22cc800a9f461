"""Which parts a host needs besides Debian's packages, and from where: built or fetched here.

The answer is the same for a host that is provisioned and for the image of a box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from deploys.errors import BoxError, PreflightError
from deploys.operations.packages import LocalPackage
from deploys.settings import Settings
from deploys.settings.stack import BUILT, package_name
from deploys.stack import Parts
from tasks.debian import archive, bootstrap, deb, pins
from tasks.desk import loop, shell
from tasks.stack import items, packages
from tasks.stack.packages import PYTHONS
from tasks.stack.recipes import RECIPES
from tasks.stack.sources import Sources


class UnavailableError(BoxError):
    """A host lacks a part, and this machine cannot build it; the line says why."""


@dataclass(frozen=True)
class Prepared:
    """The parts of one host; ``left_out`` says why others could not be built, by their names."""

    parts: Parts
    left_out: Mapping[str, str] = field(default_factory=dict)


def prepared(
    settings: Settings,
    python: str,
    installed: Mapping[str, str],
    folder: Path,
    progress: Callable[[str], None],
    *,
    build: bool = True,
    wanted: pins.Manifest | None = None,
) -> Prepared:
    """The parts that a host with this Python must have; only those that it lacks are built.

    Args:
        settings: of the host.
        python: the version of the host's Python, as ``3.13``.
        installed: the source digests of the packages built here that the host has, by name.
        folder: where packages and items are kept once they are made.
        progress: gets a line before each slow step.
        build: whether to build; a comparison needs no files.
        wanted: the manifest whose versions the host must have, if any.

    Raises:
        BoxError: a part cannot be fetched or built, or not as the manifest pins it.
    """
    read = cache(lambda suite: archive.read(suite, folder))
    versions = pinned(settings, wanted)
    local: list[LocalPackage] = []
    left_out: dict[str, str] = {}
    for part in settings.stack.built:
        sources, name = Sources.of(settings, part), package_name(part)
        digest, file = packages.source_digest(sources, python), Path()
        try:
            if installed.get(name) != digest:
                suite = _suite(sources, python)
                before = wanted.built.get(name, "") if wanted else ""
                if build:
                    folder.mkdir(parents=True, exist_ok=True)
                    file = packages.built(
                        sources, read(suite), suite, folder, progress, versions, before
                    )
            local.append(LocalPackage(name, digest, file))
        except UnavailableError as error:
            if not BUILT[part].dispensable:
                raise PreflightError(f"{part} cannot be built here: {error}") from error
            left_out[part] = str(error)
    if wanted is not None:
        made = {each.name: deb.field(each.file, "Version") for each in local}
        pins.require_same(wanted.built, made)
    found = None
    if settings.stack.has_items:
        found = items.items(Sources.of(settings, "openkim-repository"), folder, progress)
    return Prepared(Parts(tuple(local), found), left_out)


def pinned(settings: Settings, wanted: pins.Manifest | None) -> dict[str, str] | None:
    """The versions that Debian's packages must have: the rows', else those of a manifest."""
    return {**(wanted.packages if wanted else {}), **settings.stack.versions} or None


def _suite(sources: Sources, python: str) -> str:
    """The Debian release to build a part for; UnavailableError if this machine cannot."""
    portable = RECIPES[sources.name].portable
    suites = [name for name, has in PYTHONS.items() if portable or has == python]
    if not suites:
        raise UnavailableError(f"no Debian release that it is built for has Python {python}")
    suite = suites[-1]
    try:
        shell.find("mmdebstrap")  # on a desk without Debian's tools root would not help
        loop.require_root("building it")
        lines = bootstrap.sources(suite)
    except BoxError as error:
        raise UnavailableError(str(error)) from error
    if not lines:
        raise UnavailableError("apt on this machine knows no Debian mirror")
    return suite
