"""How each part of the stack becomes the files of a package, and how the result is checked.

A recipe's script runs in a throwaway tree, in a folder with the sources as a ``.tar.gz``. It leaves
the files in ``out``, laid out as on a box, and in ``out/made`` a line with upstream's version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploys.errors import BoxError
from tasks.debian.deb import DATE

MADE = "made"
"""The file beside those of the package; its line says what was made."""


@dataclass(frozen=True)
class Output:
    """What a script left for boxes with this Python: the files of a package, and the line."""

    folder: Path
    made: str
    python: str


@dataclass(frozen=True)
class Recipe:
    """``script`` runs in a tree that has ``tools``; a ``portable`` package serves every release.

    ``version`` gives upstream's version; it raises a BoxError if something else was made.
    ``is_python`` says that the package holds Python modules.
    """

    tools: tuple[str, ...]
    script: str
    version: Callable[[Output], str]
    portable: bool = False
    is_python: bool = False


_UNPACK = """
mkdir sources
tar -xf *.tar.gz -C sources --strip-components=1
"""
# The layout is that of Debian's packages: neither below /usr/local nor for one user.
_INSTALL = f"""
export DEB_PYTHON_INSTALL_LAYOUT=deb
python3 -m installer --no-compile-bytecode --destdir=out dist/*.whl
basename dist/*.whl >out/{MADE}
"""
# Debugging symbols (9 of 10 bytes) and paths of the build are left out. Modules are compiled in
# parallel. -O1 takes 0.6 of the time of -O2 -g and is enough: kimpy only passes on what the KIM API
# computes. The flags replace those of Python, so -DNDEBUG and -fwrapv are repeated.
_KIMPY = f"""{_UNPACK}\
printf '[build_ext]\\nparallel = %s\\n' "$(nproc)" >options
export DIST_EXTRA_CONFIG="$PWD/options" SOURCE_DATE_EPOCH={DATE} HOME="$PWD"
export CXXFLAGS="-O1 -g0 -DNDEBUG -fwrapv -ffile-prefix-map=$PWD=." LDFLAGS=-Wl,--strip-all
export CFLAGS="$CXXFLAGS"
(cd sources && python3 -c 'from setuptools.build_meta import build_wheel; build_wheel("../dist")')
{_INSTALL}"""
_KIMPY_TOOLS = (
    "g++",
    "libkim-api-dev",
    "pkgconf",
    "pybind11-dev",
    "python3-dev",
    "python3-installer",
    "python3-pybind11",
    "python3-setuptools",
    "python3-wheel",
)
# Any PEP 517 backend that the tree has; none is fetched.
_PURE = f"""{_UNPACK}\
export SOURCE_DATE_EPOCH={DATE} HOME="$PWD" PIP_ROOT_USER_ACTION=ignore
python3 -m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir dist ./sources
{_INSTALL}"""
# Several projects at once. Of what they need, Debian 12 has versions that are too old.
_PURES = f"""
export SOURCE_DATE_EPOCH={DATE} HOME="$PWD" PIP_ROOT_USER_ACTION=ignore
export DEB_PYTHON_INSTALL_LAYOUT=deb
export PYTHONPATH="$PWD/out/usr/lib/python3/dist-packages" # one is built with another
python3 -c 'from semver import Version' 2>/dev/null || {{
    echo "kim-tools is for Debian 13: python3-semver and others of this release are too old"
    exit 1
}}
trap 'grep "Error: " log | tail -n 1' EXIT
for each in *.tar.gz; do
    rm -rf sources dist
    mkdir sources
    tar -xf "$each" -C sources --strip-components=1
    python3 -m pip wheel --quiet --no-deps --no-build-isolation --no-index -w dist ./sources
    python3 -m installer --no-compile-bytecode --destdir=out dist/*.whl
    case $each in kim_tools-*) basename dist/*.whl >made ;; esac
done
trap - EXIT
cp made out/{MADE}
"""
_PURE_TOOLS = (
    "flit",
    "python3-hatchling",
    "python3-installer",
    "python3-pip",
    "python3-setuptools",
    "python3-wheel",
)


_KIM_TOOLS_TOOLS = (
    *("python3-installer", "python3-pip", "python3-requests", "python3-semver"),
    *("python3-setuptools", "python3-setuptools-scm", "python3-versioneer", "python3-wheel"),
)


def _kimpy(output: Output) -> str:
    wheel, python = output.made, output.python
    if not wheel.startswith("kimpy-"):
        raise BoxError(f"the sources make {wheel}, which is not kimpy")
    if f"-cp{python.replace('.', '')}-" not in wheel:
        raise BoxError(f"the sources make {wheel}, which is not for Python {python}")
    return wheel.split("-")[1]


def _pure(output: Output) -> str:
    if not output.made.endswith("-none-any.whl"):
        raise BoxError(f"the sources make {output.made}, which is not pure Python")
    return output.made.split("-")[1]


def _calculator(output: Output) -> str:
    if any(output.folder.glob("usr/lib/python3/dist-packages/ase/*")):
        raise BoxError("the sources bring ase itself: name them in stack.ase")
    return _pure(output)


# The build type None, as in Debian's builds, adds no flags. Debugging symbols and paths of the
# build are left out. When a build fails, the trap prints the compiler's error last.
_COMPILE = f"""
export SOURCE_DATE_EPOCH={DATE} HOME="$PWD"
export CXXFLAGS="-O2 -g0 -DNDEBUG -ffile-prefix-map=$PWD=." LDFLAGS=-Wl,--strip-all
export CFLAGS="$CXXFLAGS" FFLAGS="$CXXFLAGS"
trap 'sed -n "/CMake Error\\|error: /{{p;q}}" log' EXIT
cmake -S "sources/$folder" -B build -DCMAKE_BUILD_TYPE=None -DCMAKE_INSTALL_PREFIX=/usr \\
    -DCMAKE_INSTALL_LIBDIR="lib/$(gcc -print-multiarch)" -DCMAKE_SKIP_INSTALL_RPATH=ON \\
    -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON "$@"
cmake --build build --parallel "$(nproc)"
DESTDIR="$PWD/out" cmake --install build
"""
_CMAKE_TOOLS = ("cmake", "g++", "gfortran", "make")
_LIBRARY, _MANAGEMENT = "libkim-api.so.2", "kim-api-collections-management"
# Models lie where Debian's package has them. The same soname is not enough: KIM API 2.4 misreads
# the parameter files in models of 2.3, without an error that a user would see.
_KIM_API = f"""{_UNPACK}
folder=.
libraries=/usr/lib/$(gcc -print-multiarch)
collections=$libraries/kim-api
set -- -DKIM_API_BUILD_EXAMPLES=OFF \\
    -DKIM_API_SYSTEM_MODEL_DRIVERS_DIR="$collections/model-drivers" \\
    -DKIM_API_SYSTEM_PORTABLE_MODELS_DIR="$collections/portable-models" \\
    -DKIM_API_SYSTEM_SIMULATOR_MODELS_DIR="$collections/simulator-models"
{_COMPILE}
trap - EXIT
find out -name 'libkim-api.so.*' -printf '%f ' >out/{MADE}
made=$(basename "out$libraries"/libkim-api.so.*.*.*)
debians=$(dpkg-query -W -f '${{source:Upstream-Version}}' libkim-api2 2>/dev/null || :)
if dpkg --compare-versions "${{made#libkim-api.so.}}" lt "$debians"; then
    echo "the sources make $made, which is older than Debian's $debians: its LAMMPS needs that"
    exit 1
fi
model=$(basename "$collections"/portable-models/SW_StillingerWeber_1985_Si__MO_*)
LD_LIBRARY_PATH="$PWD/out$libraries" \\
    out/usr/libexec/kim-api/kim-api-portable-model-info "$model" >model 2>&1 || {{
    echo "the sources make $made, which cannot read the models of Debian's openkim-models here"
    exit 1
}}
"""
# LAMMPS is linked to Debian's KIM API; one that is built here has the same soname and is loaded in
# its place. A job is one process on one CPU, so there is neither MPI nor OpenMP. PKG_KIM is KIM's
# interface; the other packages have potentials for simulator models. Nine tenths of what is
# installed are potentials for LAMMPS' own styles, which KIM's models do not need: they are removed.
_LAMMPS = f"""{_UNPACK}
folder=cmake
set -- -DBUILD_MPI=OFF -DBUILD_OMP=OFF -DBUILD_SHARED_LIBS=OFF -DDOWNLOAD_KIM=OFF \\
    -DWITH_JPEG=OFF -DWITH_PNG=OFF -DWITH_GZIP=OFF -DWITH_FFMPEG=OFF \\
    -DPKG_KIM=ON -DPKG_MANYBODY=ON -DPKG_MEAM=ON
{_COMPILE}
rm -rf out/etc out/usr/etc out/usr/share
sed -n 's/^#define LAMMPS_VERSION "\\(.*\\)"/\\1/p' sources/src/version.h >out/{MADE} || :
"""


def _kim_api(output: Output) -> str:
    _require_program(output, _MANAGEMENT)
    names = sorted(output.made.split())
    if _LIBRARY not in names:
        linked = f"other software of a box is linked to {_LIBRARY}"
        raise BoxError(f"the sources make {' '.join(names) or 'no libkim-api.so'}, and {linked}")
    return max(names, key=len).removeprefix("libkim-api.so.")


def _lammps(output: Output) -> str:
    _require_program(output, "lmp")
    try:
        return datetime.strptime(output.made, "%d %b %Y").strftime("%Y%m%d")
    except ValueError:
        return "0"  # a fork may have another form of version


def _require_program(output: Output, program: str) -> None:
    if not (output.folder / "usr/bin" / program).exists():
        raise BoxError(f"the sources make no program {program}")


RECIPES = {
    "openkim-api": Recipe((*_CMAKE_TOOLS, "openkim-models"), _KIM_API, _kim_api),
    "lammps": Recipe((*_CMAKE_TOOLS, "libkim-api-dev", "pkgconf"), _LAMMPS, _lammps),
    "ase": Recipe(_PURE_TOOLS, _PURE, _pure, True, True),
    "openkim-kimcalculator-ase": Recipe(_PURE_TOOLS, _PURE, _calculator, True, True),
    "kim-tools": Recipe(_KIM_TOOLS_TOOLS, _PURES, _pure, True, True),
    "openkim-python": Recipe(_KIMPY_TOOLS, _KIMPY, _kimpy, is_python=True),
}
