"""What a box needs to apply deploys to itself: Python libraries and a copy of this project."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.errors import DeployError
from deploys.operations import onbox

PYTHON_PATH = "/opt/pipeline/python"
PROJECT_PATH = "/opt/pipeline/setup"
PARTS = ("deploys", "static")
COMMIT_FILE = ".commit"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Archive:
    """A tar file on this machine; ``digest`` (sha256, hexadecimal) identifies its content."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Project:
    """The version of this project that makes a box.

    ``commit`` is the last that touched ``deploys`` or ``static``, followed by ``-dirty`` when
    files differ from it, or ``unknown``. ``digest`` is the sha256 over all those files.
    """

    commit: str
    digest: str


def project_files(root: Path = ROOT) -> list[Path]:
    """The files of this project that go on a box, sorted, without compiled Python.

    Raises:
        DeployError: ``root`` is no copy of this project.
    """
    found: list[Path] = []
    for part in PARTS:
        if not (root / part).is_dir():
            raise DeployError(f"{root} has no folder {part}: it is not a copy of this project")
        found += [
            file
            for file in (root / part).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        ]
    return sorted(found)


def files_digest(files: Iterable[Path], root: Path) -> str:
    """The sha256 over names, execute bits and contents of ``files`` below ``root``."""
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        executable = bool(file.stat().st_mode & 0o100)
        digest.update(f"{file.relative_to(root)}\0{executable:d}\0{content}\n".encode())
    return digest.hexdigest()


def project(root: Path = ROOT) -> Project:
    """The version of the copy at ``root``; its file ``.commit`` names the commit.

    Raises:
        DeployError: ``root`` is no copy of this project.
    """
    try:
        commit = (root / COMMIT_FILE).read_text().strip()
    except OSError:
        commit = ""
    return Project(commit or "unknown", files_digest(project_files(root), root))


@deploy("Bundle")
def bundle(python: Archive, copy: Archive) -> None:
    """Unpack the libraries to ``/opt/pipeline/python``, the project to ``/opt/pipeline/setup``."""
    onbox.unpacked(
        name="Python libraries",
        archive=python.path,
        digest=python.digest,
        path=PYTHON_PATH,
        compiled=True,
    )
    onbox.unpacked(
        name="Copy of the project", archive=copy.path, digest=copy.digest, path=PROJECT_PATH
    )
