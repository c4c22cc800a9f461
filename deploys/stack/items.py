"""The items of openkim-repository, where its row has their own files: Tests, drivers, Models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyinfra.api.deploy import deploy

from deploys.operations import onbox
from deploys.settings.paths import STATE

REPOSITORY_PATH = "/opt/pipeline/repository"


@dataclass(frozen=True)
class Items:
    """A tar file on this machine, in which each item is a folder; what names it; their KIM ids."""

    path: Path
    digest: str
    names: tuple[str, ...]


@deploy("Repository")
def repository(items: Items, role: str) -> None:
    """The items as they are at ``/opt/pipeline/repository``, and each among those of the pipeline.

    On a gateway these are the ones that boxes are served; ``/persistent`` must be mounted.
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
    """No items at ``/opt/pipeline/repository``: what the golden root has, its manifest says.

    Those of the pipeline stay in ``/persistent``.
    """
    onbox.removed(name="No items of a repository", path=REPOSITORY_PATH)
