"""Debian packages as files: written from a tree of files, the same bytes each time, and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tasks.desk import shell

DATE = 315532800
"""What all files are dated, in seconds since 1970: the first that a zip file can hold."""
# As dh_python3 and dh_makeshlibs have it.
_MODULES = "usr/lib/python3/dist-packages"
_SCRIPTS = {
    "postinst": "if command -v py3compile >/dev/null; then py3compile -p {name}; fi",
    "prerm": "if command -v py3clean >/dev/null; then py3clean -p {name}; fi",
}
_TRIGGERS = "activate-noawait ldconfig\n"


def write(root: Path, fields: Mapping[str, str], folder: Path) -> None:
    """Write a package to a folder, by its name, version and architecture.

    Python modules in it are compiled where it is installed, and libraries are made known.

    Args:
        root: its files, as they are to lie; their modes become 0644 or 0755.
        fields: of its control file; those that are empty are left out.
        folder: where the file is put.

    Raises:
        CommandError: a field is none of Debian's form.
    """
    control = root / "DEBIAN"
    control.mkdir()
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
    """A field of the control file of a package."""
    return shell.run(["dpkg-deb", "--field", package, name]).stdout.strip()


def architecture() -> str:
    """This machine's, by Debian's name."""
    return shell.run(["dpkg", "--print-architecture"]).stdout.strip()


def version(upstream: str) -> str:
    """Upstream's version as Debian's policy takes it: what comes before a release sorts so."""
    text = re.sub(r"(?<=\d)[._-]?(a|b|rc|dev)(?=\d)", r"~\1", upstream)
    return re.sub(r"[^A-Za-z0-9.+~]", ".", text if text[:1].isdecimal() else f"0.{text}")
