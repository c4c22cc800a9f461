"""Write and read Debian packages; the same tree of files gives the same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from deploys.errors import BoxError
from tasks.desk import shell

DATE = 315532800
"""The date of all files, in seconds since 1970: the earliest that a zip file can hold."""
# As dh_python3 and dh_makeshlibs write them.
_MODULES = "usr/lib/python3/dist-packages"
_SCRIPTS = {
    "postinst": "if command -v py3compile >/dev/null; then py3compile -p {name}; fi",
    "prerm": "if command -v py3clean >/dev/null; then py3clean -p {name}; fi",
}
_TRIGGERS = "activate-noawait ldconfig\n"


def write(root: Path, fields: Mapping[str, str], folder: Path) -> None:
    """Build a package from a tree of files.

    A package with Python modules compiles them when it is installed; one with shared libraries
    triggers ldconfig.

    Args:
        root: its files, at their paths on the system; their modes become 0644 or 0755.
        fields: of its control file; empty ones are left out.
        folder: where dpkg-deb puts the file NAME_VERSION_ARCHITECTURE.deb.

    Raises:
        BoxError: the tree has scripts for dpkg.
        CommandError: dpkg-deb failed, as when a field is malformed.
    """
    control = root / "DEBIAN"
    try:
        control.mkdir()
    except FileExistsError as error:
        raise BoxError("the sources make DEBIAN, which is for the package's own scripts") from error
    lines = (f"{name}: {text}\n" for name, text in fields.items() if text)
    (control / "control").write_text("".join(lines))
    if (root / _MODULES).exists():
        for name, line in _SCRIPTS.items():
            script = f"#!/bin/sh\nset -e\n{line.format(name=fields['Package'])}\n"
            (control / name).write_text(script)
            (control / name).chmod(0o755)
    if any(root.glob("usr/lib/*/lib*.so.*")):
        (control / "triggers").write_text(_TRIGGERS)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    argv = ["dpkg-deb", "--root-owner-group", "--uniform-compression", "-Zgzip"]
    shell.run([*argv, "--build", root, folder], env={"SOURCE_DATE_EPOCH": str(DATE)}, timeout=600)


def field(package: Path, name: str) -> str:
    """Read a field of a package's control file."""
    return shell.run(["dpkg-deb", "--field", package, name]).stdout.strip()


def architecture() -> str:
    """Debian's name of this machine's architecture."""
    return shell.run(["dpkg", "--print-architecture"]).stdout.strip()


def version(upstream: str) -> str:
    """Write upstream's version in Debian's form, in which 1.0~rc1 sorts before 1.0."""
    text = re.sub(r"(?<=\d)[._-]?(a|b|rc|dev)(?=\d)", r"~\1", upstream)
    return re.sub(r"[^A-Za-z0-9.+~]", ".", text if text[:1].isdecimal() else f"0.{text}")
