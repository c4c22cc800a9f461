"""Box = manifest: what a box is, and one hash over all of it."""

from __future__ import annotations

from pathlib import PurePosixPath

from pyinfra.api.deploy import deploy

from deploys.bundle import PYTHON_PATH, Project
from deploys.kimpy import KIMPY_PATH
from deploys.operations import manifest as operations
from deploys.operations.manifest import MANIFEST, RELEASE, SETTINGS
from deploys.settings import Settings

__all__ = ["MANIFEST", "RELEASE", "SETTINGS", "manifest"]


@deploy("Manifest")
def manifest(settings: Settings, project: Project) -> None:
    """The box's manifest, settings and release file; the last deploy of a pass."""
    operations.manifest(
        name=f"Write {PurePosixPath(MANIFEST).name}",
        commit=project.commit,
        digest=project.digest,
        settings=settings.of_box(),
        python=PYTHON_PATH,
        kimpy=KIMPY_PATH,
    )
