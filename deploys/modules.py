"""Parts of the stack that are Python and no package of Debian's: what wheels of our making hold."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.operations import onbox

_FOLDER = "/opt/pipeline"
KIMPY_PATH = f"{_FOLDER}/kimpy"


@dataclass(frozen=True)
class Modules:
    """The content of a wheel as a tar file on this machine, and the box's Python as ``3.13``.

    ``digest`` (sha256, hexadecimal) names what the wheel was asked to be: a box that has one of
    that digest needs no other, and the file need not exist. ``name`` is that of their folder.
    """

    path: Path
    digest: str
    python: str
    name: str = "kimpy"


@deploy("Modules")
def modules(modules: Modules) -> None:
    """The modules in ``/opt/pipeline``, where the box's Python finds them before Debian's."""
    name = modules.name
    onbox.unpacked(
        name=f"Modules of {name}",
        archive=modules.path,
        digest=modules.digest,
        path=place(name),
        compiled=True,
    )
    onbox.files(name=f"{name} on Python's path", sources=finder(modules.python, name))


@deploy("Modules of before")
def dropped(names: Collection[str]) -> None:
    """None of these names: what a package of Debian's brings now would not be found otherwise."""
    for name in names:
        onbox.dropped(name=f"No modules of {name}", path=place(name), also=_finder("3.*", name))


def place(name: str) -> str:
    """Where the modules of this name lie on a box."""
    return f"{_FOLDER}/{name}"


def finder(python: str, name: str = "kimpy") -> dict[str, onbox.OnboxFile]:
    """The file by which a box's Python (as ``3.13``) finds the modules, for every user."""
    return {_finder(python, name): onbox.OnboxFile(f"{place(name)}\n".encode())}


def _finder(python: str, name: str) -> str:
    return f"/usr/local/lib/python{python}/dist-packages/{name}.pth"
