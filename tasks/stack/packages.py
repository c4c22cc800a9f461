"""Builds parts of the stack as Debian packages, in a throwaway tree, and keeps the packages.

The tree has the box's Debian release, and compilers and headers that no box has. A package is kept
under a hash of all that made it: the sources, the recipe, and each package that the build needs,
with its version. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from deploys.errors import BoxError
from deploys.facts.packages import ORIGIN, SOURCE_DIGEST
from deploys.settings.stack import BUILT, package_name
from tasks.debian import apt, archive, bootstrap, cage, deb
from tasks.stack import recipes
from tasks.stack.recipes import RECIPES, Output
from tasks.stack.sources import Sources

# The Debian releases that parts are built for, and the Python by which a host is matched to one.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
_BUILD_LENGTH = 12
_LONGEST = 500  # characters of the line that says what was made


def source_digest(sources: Sources, python: str) -> str:
    """The digest of the sources, the recipe and the control file, for hosts with this Python."""
    recipe = RECIPES[sources.name]
    python = "" if recipe.portable else python
    return _hashed(recipe.script, sources.identity, python, _fields(sources, python, "0"))


def built(
    sources: Sources,
    found: archive.Archive,
    suite: str,
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None = None,
    wanted: str = "",
) -> Path:
    """The package of a part for boxes of a Debian release, built unless ``folder`` has it.

    Args:
        sources: what it is built from.
        found: the archive of the release, as it is now.
        suite: the release's name, as ``trixie``.
        folder: where packages are kept once they are built.
        progress: gets a line before each slow step.
        pins: versions of packages to build with, where the archive has them.
        wanted: the version of an earlier build, which is used if ``folder`` has it.

    Raises:
        BoxError: the sources cannot be fetched, or the build failed.
    """
    name, recipe, python = sources.name, RECIPES[sources.name], PYTHONS[suite]
    digest = source_digest(sources, python)
    stem = f"{name}-{digest[:16]}"
    build = wanted.rpartition("+pipeline.")[2]
    if build and (before := sorted(folder.glob(f"{stem}-{build}/*.deb"))):
        return before[0]
    # apt takes seconds to resolve the tools; the answer holds until the archive changes.
    now = folder / f"{stem}-now-{_hashed(found.digest, pins)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"looking for a build of {name}")  # another process may be building it
    with FileLock(folder / f"{name}.lock"):
        if not now.exists():
            progress(f"asking apt what {name} is built with")
            tools = apt.resolved(recipe.tools, found, folder, pins)
            build = _hashed(digest, suite, tools)[:_BUILD_LENGTH]
            made = folder / f"{stem}-{build}"
            if not made.exists():
                progress(f"building {name}, once")
                tree = found.tree(suite, recipe.tools, pins)
                _make(made, tree, sources, python, build)
            now.unlink(missing_ok=True)
            now.symlink_to(made.name)
    (package,) = now.resolve().glob("*.deb")
    return package


def _make(made: Path, tree: bootstrap.Tree, sources: Sources, python: str, build: str) -> None:
    name, recipe = sources.name, RECIPES[sources.name]
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=f".{name}-") as folder:
        work, package = Path(folder) / "build", Path(folder) / "package"
        work.mkdir()
        package.mkdir()
        sources.fetch(work)
        try:
            cage.run_in_tree(tree, work, recipe.script)
            out = work / "out"
            line = out / recipes.MADE
            if line.is_symlink() or not line.is_file():
                raise BoxError(f"the sources make {recipes.MADE} something else")
            made_line = line.read_text(errors="replace").strip()[:_LONGEST]
            line.unlink()
            upstream = deb.version(recipe.version(Output(out, made_line, python)))
            fields = {
                **_fields(sources, python, upstream),
                "Architecture": "all" if recipe.portable else deb.architecture(),
                "Version": f"{upstream}+pipeline.{build}",
                SOURCE_DIGEST: source_digest(sources, python),
                ORIGIN: sources.origin,
            }
            deb.write(out, fields, package)
        except BoxError as error:
            raise BoxError(f"building {name}: {error}") from error
        package.rename(made)


def _fields(sources: Sources, python: str, upstream: str) -> dict[str, str]:
    """The fields of the control file that are the same for every build."""
    part, recipe = BUILT[sources.name], RECIPES[sources.name]
    needs = [*part.needs]
    if recipe.is_python:
        major, _, minor = python.partition(".")
        exact = [f"python3 (>= {python})", f"python3 (<< {major}.{int(minor or 0) + 1})"]
        needs += ["python3"] if recipe.portable else exact
    replaced = ", ".join(part.replaces)
    return {
        "Package": package_name(sources.name),
        "Maintainer": "The OpenKIM pipeline's setup <root@localhost>",
        "Section": "science",
        "Priority": "optional",
        "Depends": ", ".join(needs),
        "Provides": ", ".join(f"{name} (= {upstream})" for name in part.replaces),
        "Conflicts": replaced,
        "Replaces": replaced,
        "Description": f"{sources.name} of the OpenKIM pipeline, built from its sources",
    }


def _hashed(*parts: object) -> str:
    """The sha256, hexadecimal, of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
