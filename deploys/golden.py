"""What the golden root of a box holds: what every one has, and what its role adds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deploys.boot import boot, removable_path
from deploys.bundle import Archive, Project, bundle
from deploys.kimpy import Kimpy, kimpy
from deploys.manifest import manifest
from deploys.provisiond import provisiond, source
from deploys.roles import role_deploys
from deploys.settings import Settings
from deploys.stack import stack
from deploys.status_page import status_page
from deploys.volume_plan import VolumePlan
from deploys.volumes import volumes


def golden(
    plan: VolumePlan,
    settings: Settings,
    python: Archive,
    copy: Archive,
    project: Project,
    wheel: Kimpy | None,
) -> tuple[Callable[[], Any], ...]:
    """The deploys of the golden root, in order; the manifest is of all that came before it.

    Without a ``wheel`` of kimpy the box keeps the one it has, if any.
    """
    return (
        partial(volumes, plan=plan),
        partial(stack, settings=settings),
        *([partial(kimpy, kimpy=wheel)] if wheel else []),
        partial(bundle, python=python, copy=copy),
        partial(boot, plan=plan, settings=settings),
        partial(removable_path, plan=plan),
        partial(provisiond),
        partial(status_page),
        partial(source, settings=settings),
        *role_deploys(settings),
        partial(manifest, settings=settings, project=project),
    )
