"""Compiles, on this machine, the parts that a box carries as programs: see deploys/compiled.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from deploys.compiled import LIBRARIES, PROGRAMS, Compiled
from deploys.errors import BoxError
from deploys.modules import place
from tasks import bundle, recipes
from tasks.machines import archive
from tasks.recipes import PYTHONS, UNPACK, Output, Recipe
from tasks.sources import Sources

# Debian's kind of build is called None: the flags are those given, and no others. Neither debugging
# symbols nor paths are kept. What went wrong is to be the last line that is printed.
_SCRIPT = """
export SOURCE_DATE_EPOCH=315532800 HOME="$PWD"
export CXXFLAGS="-O2 -g0 -DNDEBUG -ffile-prefix-map=$PWD=." LDFLAGS=-Wl,--strip-all
export CFLAGS="$CXXFLAGS" FFLAGS="$CXXFLAGS"
trap 'sed -n "/CMake Error\\|error: /{p;q}" log' EXIT
cmake -S "sources/$folder" -B build -DCMAKE_BUILD_TYPE=None -DCMAKE_INSTALL_PREFIX="$prefix" \\
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON "$@"
cmake --build build --parallel "$(nproc)"
DESTDIR="$PWD/stage" cmake --install build
mv "stage$prefix" out
"""
# One soname is not enough: as KIM API 2.4 reads the parameter files in a model, those of 2.3 are
# noise, of which it says nothing that a user would see.
_CHECK = """
trap - EXIT
made=$(basename out/lib/libkim-api.so.*.*.*)
model=$(basename "$collections"/portable-models/SW_StillingerWeber_1985_Si__MO_*)
out/libexec/kim-api/kim-api-portable-model-info "$model" >model 2>&1 || {
    echo "the sources make $made, which cannot read the models of Debian's openkim-models here"
    exit 1
}
"""
_TOOLS = ("cmake", "g++", "gfortran", "make")
# The system's collection is Debian's: models of the package, and those that a user puts there.
_KIM_API = """
folder=.
collections=/usr/lib/$(gcc -print-multiarch)/kim-api
set -- -DKIM_API_BUILD_EXAMPLES=OFF \\
    -DKIM_API_SYSTEM_MODEL_DRIVERS_DIR="$collections/model-drivers" \\
    -DKIM_API_SYSTEM_PORTABLE_MODELS_DIR="$collections/portable-models" \\
    -DKIM_API_SYSTEM_SIMULATOR_MODELS_DIR="$collections/simulator-models"
"""
# Debian's KIM API is linked: that of the row openkim-api, of the same soname, is loaded in its
# place. A job is one process on one CPU, so there is neither MPI nor OpenMP. The packages are
# those of models: KIM's own interface, and potentials for its simulator models.
_LAMMPS = """
folder=cmake
set -- -DBUILD_MPI=OFF -DBUILD_OMP=OFF -DBUILD_SHARED_LIBS=OFF -DDOWNLOAD_KIM=OFF \\
    -DWITH_JPEG=OFF -DWITH_PNG=OFF -DWITH_GZIP=OFF -DWITH_FFMPEG=OFF \\
    -DPKG_KIM=ON -DPKG_MANYBODY=ON -DPKG_MEAM=ON
"""
# Nine tenths of it are potentials for LAMMPS's own styles: KIM's models bring what they need.
_LEAN = """
rm -rf out/share out/etc
"""
_ARCHIVE = "prefix.tar.gz"


def compiled(
    found: archive.Archive,
    suite: str,
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None,
    sources: Sources,
) -> Compiled:
    """A part for boxes of a Debian release; arguments and errors as ``recipes.built``."""
    recipe = RECIPES[sources.name]
    kept = recipes.built(recipe, found, suite, folder, progress, pins, sources)
    return _compiled(kept, PYTHONS[suite], sources)


def for_host(
    python: str,
    link: str | None,
    folder: Path,
    progress: Callable[[str], None],
    *,
    build: bool = True,
    sources: Sources,
) -> Compiled:
    """A part for a host, compiled only if that lacks it, as ``recipes.for_host``.

    Where nothing was compiled, the file is not there.
    """
    recipe = RECIPES[sources.name]
    kept = recipes.for_host(recipe, python, link, folder, progress, build=build, sources=sources)
    return _compiled(kept or Path(), python, sources)


def _compiled(kept: Path, python: str, sources: Sources) -> Compiled:
    recipe = RECIPES[sources.name]
    digest = recipes.digest(recipe, python, sources)
    return Compiled(kept / _ARCHIVE, digest, recipe.name)


def _keep(output: Output, kept: Path, name: str) -> None:
    """What was installed, packed, if it is what a box calls and loads by these names."""
    for program in PROGRAMS[name]:
        if not (output.folder / "bin" / program).exists():
            raise BoxError(f"the sources make no program {program}")
    library = LIBRARIES.get(name, "")
    if library and not (output.folder / "lib" / library).exists():
        stem = library.partition(".so")[0]
        made = [path.name for path in sorted(output.folder.glob(f"lib/{stem}.so.*"))]
        told = f"what else a box has is linked to {library}"
        raise BoxError(f"the sources make {' '.join(made) or f'no {stem}.so'}, and {told}")
    bundle.pack(kept / _ARCHIVE, output.folder)


def _recipe(name: str, tools: tuple[str, ...], options: str, end: str) -> Recipe:
    script = f"{UNPACK}prefix={place(name)}{options}{_SCRIPT}{end}"
    return Recipe(name, tools, script, partial(_keep, name=name))


RECIPES = {
    "openkim-api": _recipe("openkim-api", (*_TOOLS, "openkim-models"), _KIM_API, _CHECK),
    "lammps": _recipe("lammps", (*_TOOLS, "libkim-api-dev", "pkgconf"), _LAMMPS, _LEAN),
}
