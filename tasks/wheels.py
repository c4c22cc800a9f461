"""Makes, on this machine, the wheels that a box carries: see deploys/modules.py.

Each is built in a throwaway tree of the box's Debian release, with compilers and headers that no
box has, and kept in a folder of the caller's under a hash of all that made it: the sources, the
recipe, and each package that the build needs with its version. The same make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from deploys.errors import BoxError
from deploys.modules import Modules, place
from deploys.operations.onbox import unpacked_name
from deploys.parts import PURE
from tasks import bundle
from tasks.machines import apt, archive, bootstrap, loop, shell
from tasks.sources import Sources

_TOOLS = (
    "g++",
    "libkim-api-dev",
    "pkgconf",
    "pybind11-dev",
    "python3-dev",
    "python3-pybind11",
    "python3-setuptools",
    "python3-wheel",
)
# The time is the first that a zip file can hold. Neither debugging symbols (9 of 10 bytes) nor
# paths are kept. Modules are compiled side by side; -O1 takes 0.6 of the compiler's time that -O2
# with -g does, and they only hand on what the KIM API's own library computes. The flags stand in
# place of Python's own: what those say of asserts and of overflow is said again.
_SCRIPT = """
mkdir sources
tar -xf *.tar.gz -C sources --strip-components=1
printf '[build_ext]\\nparallel = %s\\n' "$(nproc)" >options
export DIST_EXTRA_CONFIG="$PWD/options" SOURCE_DATE_EPOCH=315532800 HOME="$PWD"
export CXXFLAGS="-O1 -g0 -DNDEBUG -fwrapv -ffile-prefix-map=$PWD=." LDFLAGS=-Wl,--strip-all
export CFLAGS="$CXXFLAGS"
cd sources
python3 -c 'from setuptools.build_meta import build_wheel; build_wheel("../out")'
"""
# Any PEP 517 backend of the tree; none is fetched.
_PURE_SCRIPT = """
mkdir sources
tar -xf *.tar.gz -C sources --strip-components=1
export SOURCE_DATE_EPOCH=315532800 HOME="$PWD" PIP_ROOT_USER_ACTION=ignore
python3 -m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir out ./sources
"""
_PURE_TOOLS = ("flit", "python3-hatchling", "python3-pip", "python3-setuptools", "python3-wheel")
_MODULES = "modules.tar.gz"
_ORIGIN = "built-from.json"
# Debian's releases that it is built for, each with its Python.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}


class UnavailableError(BoxError):
    """A host lacks a part, and none can be built for it on this machine; the line says why."""


@dataclass(frozen=True)
class Recipe:
    """How a part's sources become a wheel, and what its modules are called on a box.

    ``pure`` is one in Python alone, for any Python.
    """

    name: str
    tools: tuple[str, ...]
    script: str
    pure: bool = False


RECIPES = {
    "openkim-python": Recipe("kimpy", _TOOLS, _SCRIPT),
    **{name: Recipe(name, _PURE_TOOLS, _PURE_SCRIPT, pure=True) for name in PURE},
}


def wheel(
    found: archive.Archive,
    suite: str,
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None = None,
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Modules:
    """A part's modules for boxes of a Debian release, built once for all that they are made of.

    Args:
        found: the archive of the release, as it stands.
        suite: the release's name, as ``trixie``.
        folder: where wheels are kept.
        progress: is told what takes time.
        pins: versions that packages are to have if the archive has them.
        sources: what it is built from.

    Raises:
        BoxError: the sources cannot be had, or the build failed.
    """
    recipe = RECIPES[sources.name]
    asked = _digest(PYTHONS[suite], sources)
    # apt takes seconds to say what an archive has, and says the same while that is the same.
    now = folder / f"{recipe.name}-now-{_hash(asked, found.digest, pins)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"looking for the wheel of {recipe.name}")  # another process may be building it
    with FileLock(folder / f"{recipe.name}.lock"):
        if not now.exists():
            progress(f"asking apt what {recipe.name} is built with")
            tools = apt.resolved(recipe.tools, found, folder, pins)
            made = folder / f"{recipe.name}-{_hash(asked, suite, tools)[:16]}"
            if not made.exists():
                progress(f"building {recipe.name}, once")
                tree = bootstrap.Tree(
                    suite=suite,
                    packages=recipe.tools,
                    mirror=found.lines,
                    apt_options=found.options,
                    lists=False,
                    pins=tuple(sorted((pins or {}).items())),
                )
                _make(made, tree, PYTHONS[suite], sources)
            now.unlink(missing_ok=True)
            now.symlink_to(made.name)
    return Modules(now.resolve() / _MODULES, asked, PYTHONS[suite], recipe.name)


def kept(
    sha256: str,
    suite: str,
    folder: Path,
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Modules | None:
    """Modules from the wheel of that sha256, if such a one was built here from ``sources``."""
    name = RECIPES[sources.name].name
    for wheel in folder.glob(f"{name}-*/*.whl"):
        if _sha256(wheel) == sha256 and _origin(wheel.parent) == sources.origin:
            python = PYTHONS[suite]
            modules = wheel.resolve().with_name(_MODULES)
            return Modules(modules, _digest(python, sources), python, name)
    return None


def sha256(modules: Modules) -> str:
    """The sha256 of the wheel that modules are from."""
    (wheel,) = modules.path.parent.glob("*.whl")
    return _sha256(wheel)


def for_host(
    python: str,
    link: str | None,
    folder: Path,
    progress: Callable[[str], None],
    *,
    build: bool = True,
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Modules:
    """A part's modules for a host, built only if that lacks them.

    Args:
        python: the version of the host's Python, as ``3.13``.
        link: where the modules' place is a link to on the host, if there is one.
        folder: where wheels are kept.
        progress: is told what takes time.
        build: not so, the file is not made; what is compared needs none.
        sources: what it is built from.

    Raises:
        UnavailableError: there is none, and none can be built on this machine.
        BoxError: building it failed.
    """
    asked, recipe = _digest(python, sources), RECIPES[sources.name]
    wanted = Modules(Path(_MODULES), asked, python, recipe.name)
    if link == unpacked_name(place(recipe.name), asked):
        return wanted
    suites = [name for name, version in PYTHONS.items() if recipe.pure or version == python]
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
        return wanted
    folder.mkdir(parents=True, exist_ok=True)
    made = wheel(archive.read(suite, folder), suite, folder, progress, sources=sources)
    return replace(made, python=python)


def _make(made: Path, tree: bootstrap.Tree, python: str, sources: Sources) -> None:
    recipe = RECIPES[sources.name]
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=f".{recipe.name}-") as name:
        work = Path(name) / "build"
        work.mkdir()
        sources.fetch(work)
        try:
            bootstrap.run_in_tree(tree, work, recipe.script)
        except BoxError as error:
            raise BoxError(f"building {recipe.name}: {error}") from error
        (built,) = (work / "out").glob("*.whl")
        _check(built.name, recipe, python)
        kept = Path(name) / "kept"
        kept.mkdir()
        wheel = Path(shutil.copy(built, kept))
        if sources.origin:
            (kept / _ORIGIN).write_text(json.dumps(sources.origin))
        _unpack(wheel, work / "modules", sources.origin)
        bundle.pack(kept / _MODULES, work / "modules")
        kept.rename(made)


def _check(wheel: str, recipe: Recipe, python: str) -> None:
    fault = ""
    if recipe.pure:
        fault = "" if wheel.endswith("-none-any.whl") else "is not of Python alone"
    elif not wheel.startswith("kimpy-"):
        fault = "is not kimpy"
    elif f"-cp{python.replace('.', '')}-" not in wheel:
        fault = f"is not for Python {python}"
    if fault:
        raise BoxError(f"building {recipe.name}: the sources make {wheel}, which {fault}")


def _unpack(wheel: Path, folder: Path, origin: Mapping[str, str]) -> None:
    """A wheel's files, with the note of their origin that an installer leaves beside them."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    (info,) = folder.glob("*.dist-info")
    record: dict[str, object] = {
        "url": f"file:///{wheel.name}",
        "archive_info": {"hashes": {"sha256": _sha256(wheel)}},
    }
    if origin:
        record["built_from"] = dict(origin)
    (info / "direct_url.json").write_text(json.dumps(record))


def _digest(python: str, sources: Sources) -> str:
    """What a box with this Python is to have: the sources, built by their recipe."""
    recipe = RECIPES[sources.name]
    return _hash(recipe.script, sources.named, "" if recipe.pure else python)


def _origin(folder: Path) -> dict[str, str]:
    """What ``Sources.origin`` was when the wheel in this folder was made."""
    file = folder / _ORIGIN
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
