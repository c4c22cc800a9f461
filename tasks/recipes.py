"""Builds parts of the stack from their sources, in a throwaway tree, and keeps what was built.

The tree is of the box's Debian release, with compilers and headers that no box has. What is built
is kept in a folder of the caller's under a hash of all that made it: the sources, the recipe, and
each package that the build needs with its version. The same make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from deploys.errors import BoxError
from deploys.modules import place
from deploys.operations.onbox import unpacked_name
from tasks.machines import apt, archive, bootstrap, loop, shell
from tasks.sources import Sources

# Debian's releases that parts are built for, each with its Python: by that a host's is known.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
UNPACK = """
mkdir sources
tar -xf *.tar.gz -C sources --strip-components=1
"""
"""Where a recipe's script begins: the sources in a folder of that name."""


class UnavailableError(BoxError):
    """A host lacks a part, and none can be built for it on this machine; the line says why."""


@dataclass(frozen=True)
class Output:
    """What the script of a recipe left in ``out``, for boxes with this Python."""

    folder: Path
    python: str
    sources: Sources


@dataclass(frozen=True)
class Recipe:
    """How a part's sources become what a box unpacks, and what that is called there.

    ``script`` runs in the tree, which has ``tools``; ``keep`` fills the folder that is kept, or
    raises a BoxError. What is ``portable`` is the same for every release.
    """

    name: str
    tools: tuple[str, ...]
    script: str
    keep: Callable[[Output, Path], None]
    portable: bool = False


def built(
    recipe: Recipe,
    found: archive.Archive,
    suite: str,
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None,
    sources: Sources,
) -> Path:
    """The folder kept of a part for boxes of a Debian release, built once for all that it is of.

    Args:
        recipe: how it is built.
        found: the archive of the release, as it stands.
        suite: the release's name, as ``trixie``.
        folder: where what was built is kept.
        progress: is told what takes time.
        pins: versions that packages are to have if the archive has them.
        sources: what it is built from.

    Raises:
        BoxError: the sources cannot be had, or the build failed.
    """
    asked = digest(recipe, PYTHONS[suite], sources)
    # apt takes seconds to say what an archive has, and says the same while that is the same.
    now = folder / f"{recipe.name}-now-{hashed(asked, found.digest, pins)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"looking for a build of {recipe.name}")  # another process may be at it
    with FileLock(folder / f"{recipe.name}.lock"):
        if not now.exists():
            progress(f"asking apt what {recipe.name} is built with")
            tools = apt.resolved(recipe.tools, found, folder, pins)
            made = folder / f"{recipe.name}-{hashed(asked, suite, tools)[:16]}"
            if not made.exists():
                progress(f"building {recipe.name}, once")
                tree = found.tree(suite, recipe.tools, pins)
                _make(made, tree, recipe, PYTHONS[suite], sources)
            now.unlink(missing_ok=True)
            now.symlink_to(made.name)
    return now.resolve()


def for_host(
    recipe: Recipe,
    python: str,
    link: str | None,
    folder: Path,
    progress: Callable[[str], None],
    *,
    build: bool,
    sources: Sources,
) -> Path | None:
    """The folder kept of a part for a host, built only if that lacks it; else None.

    Args:
        recipe: how it is built.
        python: the version of the host's Python, as ``3.13``.
        link: where the part's place is a link to on the host, if there is one.
        folder: where what was built is kept.
        progress: is told what takes time.
        build: not so, nothing is built; what is compared needs no file.
        sources: what it is built from.

    Raises:
        UnavailableError: there is none, and none can be built on this machine.
        BoxError: building it failed.
    """
    if link == unpacked_name(place(recipe.name), digest(recipe, python, sources)):
        return None
    suites = [name for name, has in PYTHONS.items() if recipe.portable or has == python]
    suite = suites[-1] if suites else ""
    if not suite:
        raise UnavailableError(f"no Debian release that it is built for has Python {python}")
    try:
        loop.require_root("building it")
        shell.find("mmdebstrap")
        lines = bootstrap.sources(suite)
    except BoxError as error:
        raise UnavailableError(str(error)) from error
    if not lines:
        raise UnavailableError("apt on this machine knows no Debian mirror")
    if not build:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    found = archive.read(suite, folder)
    return built(recipe, found, suite, folder, progress, None, sources)


def digest(recipe: Recipe, python: str, sources: Sources) -> str:
    """What a box with this Python is to have: the sources, built by their recipe."""
    return hashed(recipe.script, sources.named, "" if recipe.portable else python)


def hashed(*parts: object) -> str:
    """One sha256, hexadecimal, over what JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _make(made: Path, tree: bootstrap.Tree, recipe: Recipe, python: str, sources: Sources) -> None:
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=f".{recipe.name}-") as name:
        work, kept = Path(name) / "build", Path(name) / "kept"
        work.mkdir()
        kept.mkdir()
        sources.fetch(work)
        try:
            bootstrap.run_in_tree(tree, work, recipe.script)
            recipe.keep(Output(work / "out", python, sources), kept)
        except BoxError as error:
            raise BoxError(f"building {recipe.name}: {error}") from error
        kept.rename(made)
