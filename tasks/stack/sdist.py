"""A package's sources from this machine's package index, by pip."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from deploys.errors import BoxError
from tasks.desk import shell

# pip asks the build backend for metadata even when it only downloads, and kimpy's backend would
# look for the KIM API on this machine. This backend stands in for setuptools: it copies the
# package's metadata and runs none of its code.
_BACKEND = """
import email, pathlib, shutil

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    about = email.message_from_string(pathlib.Path("PKG-INFO").read_text())
    name = about["Name"].replace("-", "_")
    info = pathlib.Path(folder, f"{name}-{about['Version']}.dist-info")
    info.mkdir()
    shutil.copy("PKG-INFO", info / "METADATA")
    return info.name
"""
_DOWNLOAD = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation")


def fetch(lock: Path, folder: Path) -> Path:
    """The sources of the packages of a lock file, put into ``folder``; pip checks their hashes.

    Returns the first of them.

    Raises:
        BoxError: they cannot be fetched.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="backend-") as name:
        backend = Path(name) / "setuptools"
        backend.mkdir()
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_BACKEND)
        argv = [sys.executable, *_DOWNLOAD, "--no-binary", ":all:", "--require-hashes"]
        argv += ["--dest", str(folder), "--requirement", str(lock)]
        try:
            shell.run(argv, env={"PYTHONPATH": name}, timeout=600)
        except shell.CommandError as error:
            lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR: ")]
            why = lines[-1].removeprefix("ERROR: ") if lines else str(error)
            raise BoxError(f"fetching what {lock.name} names: {why}") from error
    return min(folder.glob("*.tar.gz"))
