"""The manifest: what a box is made of, and one hash over all of it."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from pydantic import ValidationError
from pyinfra.api.deploy import deploy

from deploys.errors import SettingsError
from deploys.operations import manifest as operations
from deploys.operations.manifest import MANIFEST, RELEASE, SETTINGS
from deploys.settings import LABELS, Settings
from deploys.stack.bundle import PYTHON_PATH, Project

__all__ = ["MANIFEST", "RELEASE", "SETTINGS", "manifest", "parse_settings"]


def parse_settings(text: str | bytes, where: str) -> Settings:
    """The settings that a box has of itself; ``where`` names the box in errors.

    Older versions called some devel boxes director or worker: these are devel.

    Raises:
        SettingsError: they are no JSON, or of another version of this project.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{where}: not JSON: {error}") from error
    if isinstance(found, dict) and found.get("role") in LABELS:
        found["role"] = "devel"
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{where}: {name}: {first['msg']}") from error


@deploy("Manifest")
def manifest(settings: Settings, project: Project, promoted: int | None = None) -> None:
    """Write the box's manifest, settings and release file; the last deploy of a pass.

    ``promoted`` is when the root was promoted to golden, in seconds since 1970.
    """
    operations.manifest(
        name=f"Write {PurePosixPath(MANIFEST).name}",
        commit=project.commit,
        digest=project.digest,
        settings=settings.of_box(),
        python=PYTHON_PATH,
        promoted=promoted,
    )
