"""What the golden root of a box holds: what every one has, and what its role adds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deploys.boot import boot, removable_path
from deploys.bundle import Archive, Project, bundle
from deploys.manifest import manifest
from deploys.provisiond import provisiond, source
from deploys.repository import dropped as dropped_repository
from deploys.repository import repository
from deploys.roles import role_deploys
from deploys.settings import Settings
from deploys.stack import Parts, stack
from deploys.status_page import status_page
from deploys.volume_plan import VolumePlan
from deploys.volumes import volumes


def golden(
    plan: VolumePlan,
    settings: Settings,
    python: Archive,
    copy: Archive,
    project: Project,
    parts: Parts,
) -> tuple[Callable[[], Any], ...]:
    """The deploys of the golden root, in order; the manifest is of all that came before it."""
    return (
        partial(volumes, plan=plan),
        partial(stack, settings=settings, parts=parts),
        partial(bundle, python=python, copy=copy),
        # Before the menu that makes a host a box: to a later provision its loader is no concern.
        partial(removable_path, plan=plan),
        partial(boot, plan=plan, settings=settings),
        partial(provisiond),
        partial(status_page),
        partial(source, settings=settings),
        *role_deploys(settings),
        partial(repository, items=parts.items, role=settings.role)
        if parts.items
        else partial(dropped_repository),
        partial(manifest, settings=settings, project=project),
    )
