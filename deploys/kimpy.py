"""kimpy, the KIM API for the box's Python: no package of Debian's, so a wheel of our making."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.operations import onbox

KIMPY_PATH = "/opt/pipeline/kimpy"


@dataclass(frozen=True)
class Kimpy:
    """The content of a wheel as a tar file on this machine, and the box's Python as ``3.13``.

    ``digest`` (sha256, hexadecimal) names what the wheel was asked to be: a box that has one of
    that digest needs no other, and the file need not exist.
    """

    path: Path
    digest: str
    python: str


@deploy("kimpy")
def kimpy(kimpy: Kimpy) -> None:
    """The modules at ``/opt/pipeline/kimpy``, where the box's Python finds them."""
    onbox.unpacked(
        name="Modules of kimpy",
        archive=kimpy.path,
        digest=kimpy.digest,
        path=KIMPY_PATH,
        compiled=True,
    )
    onbox.files(name="kimpy on Python's path", sources=finder(kimpy.python))


def finder(python: str) -> dict[str, onbox.OnboxFile]:
    """The file by which a box's Python (as ``3.13``) finds the modules, for every user."""
    path = f"/usr/local/lib/python{python}/dist-packages/kimpy.pth"
    return {path: onbox.OnboxFile(f"{KIMPY_PATH}\n".encode())}
