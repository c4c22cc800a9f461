"""Makes, on this machine, the wheels that a box carries, by recipes: see deploys/modules.py."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from deploys.errors import BoxError
from deploys.modules import Modules
from deploys.parts import PURE
from tasks import bundle, recipes
from tasks.machines import archive
from tasks.recipes import PYTHONS, UNPACK, Output, Recipe
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
_SCRIPT = f"""{UNPACK}\
printf '[build_ext]\\nparallel = %s\\n' "$(nproc)" >options
export DIST_EXTRA_CONFIG="$PWD/options" SOURCE_DATE_EPOCH=315532800 HOME="$PWD"
export CXXFLAGS="-O1 -g0 -DNDEBUG -fwrapv -ffile-prefix-map=$PWD=." LDFLAGS=-Wl,--strip-all
export CFLAGS="$CXXFLAGS"
cd sources
python3 -c 'from setuptools.build_meta import build_wheel; build_wheel("../out")'
"""
# Any PEP 517 backend of the tree; none is fetched.
_PURE_SCRIPT = f"""{UNPACK}\
export SOURCE_DATE_EPOCH=315532800 HOME="$PWD" PIP_ROOT_USER_ACTION=ignore
python3 -m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir out ./sources
"""
_PURE_TOOLS = ("flit", "python3-hatchling", "python3-pip", "python3-setuptools", "python3-wheel")
_MODULES = "modules.tar.gz"
_ORIGIN = "built-from.json"


def wheel(
    found: archive.Archive,
    suite: str,
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None = None,
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Modules:
    """A part's modules for boxes of a Debian release; arguments and errors as ``recipes.built``."""
    recipe = RECIPES[sources.name]
    kept = recipes.built(recipe, found, suite, folder, progress, pins, sources)
    return _modules(kept, PYTHONS[suite], sources)


def kept(
    sha256: str,
    suite: str,
    folder: Path,
    sources: Sources = Sources(),  # noqa: B008 - frozen
) -> Modules | None:
    """Modules from the wheel of that sha256, if such a one was built here from ``sources``."""
    for wheel in folder.glob(f"{RECIPES[sources.name].name}-*/*.whl"):
        if _sha256(wheel) == sha256 and _origin(wheel.parent) == sources.origin:
            return _modules(wheel.parent.resolve(), PYTHONS[suite], sources)
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
    """A part's modules for a host, built only if that lacks them, as ``recipes.for_host``.

    Where nothing was built, the file is not there.
    """
    recipe = RECIPES[sources.name]
    kept = recipes.for_host(recipe, python, link, folder, progress, build=build, sources=sources)
    return _modules(kept or Path(), python, sources)


def _modules(kept: Path, python: str, sources: Sources) -> Modules:
    recipe = RECIPES[sources.name]
    return Modules(kept / _MODULES, recipes.digest(recipe, python, sources), python, recipe.name)


def _keep(output: Output, kept: Path, fault: Callable[[str, str], str]) -> None:
    """The wheel, what it was built from, and its files as a box unpacks them."""
    (built,) = output.folder.glob("*.whl")
    if said := fault(built.name, output.python):
        raise BoxError(f"the sources make {built.name}, which {said}")
    wheel, origin = Path(shutil.copy(built, kept)), output.sources.origin
    if origin:
        (kept / _ORIGIN).write_text(json.dumps(origin))
    modules = output.folder.with_name("modules")
    _unpack(wheel, modules, origin)
    bundle.pack(kept / _MODULES, modules)


def _keep_kimpy(output: Output, kept: Path) -> None:
    def fault(wheel: str, python: str) -> str:
        if not wheel.startswith("kimpy-"):
            return "is not kimpy"
        is_for = f"-cp{python.replace('.', '')}-" in wheel
        return "" if is_for else f"is not for Python {python}"

    _keep(output, kept, fault)


def _keep_pure(output: Output, kept: Path) -> None:
    def fault(wheel: str, _python: str) -> str:
        return "" if wheel.endswith("-none-any.whl") else "is not of Python alone"

    _keep(output, kept, fault)


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


def _origin(folder: Path) -> dict[str, str]:
    """What ``Sources.origin`` was when the wheel in this folder was made."""
    file = folder / _ORIGIN
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


RECIPES = {
    "openkim-python": Recipe("kimpy", _TOOLS, _SCRIPT, _keep_kimpy),
    **{name: Recipe(name, _PURE_TOOLS, _PURE_SCRIPT, _keep_pure, portable=True) for name in PURE},
}
