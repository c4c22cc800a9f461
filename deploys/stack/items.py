"""The Tests, Models and drivers of the part openkim-repository, if it comes as files of items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.operations import onbox
from deploys.settings.paths import STATE

REPOSITORY_PATH = "/opt/pipeline/repository"


@dataclass(frozen=True)
class Items:
    """A tar file on this machine with a folder for each item; its digest; the items' KIM ids."""

    path: Path
    digest: str
    names: tuple[str, ...]


@deploy("Repository")
def repository(items: Items, role: str) -> None:
    """Unpack the items to ``/opt/pipeline/repository``, and add each to those of the pipeline.

    A gateway serves the pipeline's items to boxes. ``/persistent`` must be mounted.
    """
    onbox.unpacked(
        name="Items of the repository",
        archive=items.path,
        digest=items.digest,
        path=REPOSITORY_PATH,
    )
    target = f"{STATE}/srv/items" if role == "gateway" else "/persistent/pipeline/items"
    onbox.items(
        name="Items for the pipeline", names=items.names, source=REPOSITORY_PATH, target=target
    )


@deploy("Repository of before")
def no_items() -> None:
    """Remove ``/opt/pipeline/repository``: the golden root has only what its manifest says.

    The pipeline's items stay in ``/persistent``.
    """
    onbox.removed(name="No items of a repository", path=REPOSITORY_PATH)
