"""Write the manifest of a box, its settings and its release file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from pyinfra.api.operation import operation
from pyinfra.context import host

from deploys.facts.manifest import System, SystemState
from deploys.operations import Commands, onbox
from deploys.settings.origins import provenance

MANIFEST = "/etc/pipeline/manifest.json"
SETTINGS = "/etc/pipeline/settings.json"
RELEASE = "/etc/pipeline-release"


@operation()
def manifest(
    commit: str, digest: str, settings: str, python: str, promoted: int | None = None
) -> Commands:
    """Bring manifest, settings and release file of the box up to date.

    The packages are read when this runs, after earlier operations have installed theirs.

    Args:
        commit: the commit of this project.
        digest: the digest of this project's files.
        settings: the settings of the box, as JSON.
        python: the path of the Python libraries' link on the box.
        promoted: when this root is promoted, in seconds since 1970. Later manifests keep the time.
    """
    system = host.get_fact(SystemState, python=python)
    if promoted is not None:
        system = replace(system, promoted=(*system.promoted, promoted))
    content = canonical(commit, digest, settings, system)
    release = {
        "NAME": '"OpenKIM pipeline box"',
        "ROLE": json.loads(settings)["role"],
        "MANIFEST": hashlib.sha256(content).hexdigest(),
        "COMMIT": commit,
        "PROJECT": digest,
    }
    lines = "".join(f"{key}={value}\n" for key, value in release.items())
    yield from onbox.files._inner(
        sources={
            MANIFEST: onbox.OnboxFile(content),
            SETTINGS: onbox.OnboxFile(f"{settings}\n".encode()),
            RELEASE: onbox.OnboxFile(lines.encode()),
        }
    )


def canonical(commit: str, digest: str, settings: str, system: System) -> bytes:
    """The manifest as bytes: the same for the same box, so that its ``sha256sum`` names the box."""
    values = json.loads(settings)
    body = {
        "built": system.built,
        "kernels": system.kernels,
        "os": system.os,
        "packages": system.packages,
        "project": {"commit": commit, "digest": digest},
        "python": system.python,
        "settings": values,
        **({"promoted": system.promoted} if system.promoted else {}),
        "stack": provenance(values.get("stack", {}), commit, system.packages, system.built),
    }
    return (json.dumps(body, sort_keys=True, indent=1) + "\n").encode()
