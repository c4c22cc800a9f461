"""Parts of the stack that are compiled from their sources, each below a prefix of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.modules import place
from deploys.operations import libraries, onbox

PROGRAMS = {"lammps": ("lmp",), "openkim-api": ("kim-api-collections-management",)}
"""The programs of the parts that users call: Debian's packages have them by the same names."""
LIBRARIES = {"openkim-api": "libkim-api.so.2"}
"""The library of a part that others load: Debian's LAMMPS and models, kimpy."""


@dataclass(frozen=True)
class Compiled:
    """What a part installs, as a tar file on this machine; it need not exist for a box that has it.

    ``digest`` (sha256, hexadecimal) names what it was asked to be, ``name`` is the part's.
    """

    path: Path
    digest: str
    name: str


@deploy("Compiled")
def compiled(compiled: Compiled) -> None:
    """The part in ``/opt/pipeline``; users and the dynamic linker find it before Debian's."""
    name = compiled.name
    prefix = place(name)
    onbox.unpacked(
        name=f"{name} as compiled", archive=compiled.path, digest=compiled.digest, path=prefix
    )
    for program in PROGRAMS[name]:
        onbox.linked(
            name=f"{program} at hand", path=_at_hand(program), target=f"{prefix}/bin/{program}"
        )
    if name in LIBRARIES:
        onbox.files(name=f"Libraries of {name}", sources=_searched(name))
        libraries.cached(
            name=f"{LIBRARIES[name]} found first", library=LIBRARIES[name], folder=f"{prefix}/lib"
        )


@deploy("Compiled before")
def dropped(names: Collection[str]) -> None:
    """None of these parts: Debian's programs and libraries are found again."""
    for name in names:
        onbox.dropped(
            name=f"No {name} as compiled",
            path=place(name),
            also=" ".join(traces(name)),
            then=libraries.RENEW if name in LIBRARIES else "",
        )


def traces(name: str) -> tuple[str, ...]:
    """The files by which a part is found, beside its prefix."""
    return (*map(_at_hand, PROGRAMS[name]), *_searched(name))


def _at_hand(program: str) -> str:
    return f"/usr/local/bin/{program}"


def _searched(name: str) -> dict[str, onbox.OnboxFile]:
    """The file that names a part's libraries to the dynamic linker, if it has any.

    Of two libraries of a name the linker takes that whose folder is named first; Debian's are named
    by a file that is called as their architecture is.
    """
    content = f"{place(name)}/lib\n".encode()
    path = f"/etc/ld.so.conf.d/00-{name}.conf"
    return {path: onbox.OnboxFile(content)} if name in LIBRARIES else {}
