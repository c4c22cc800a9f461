"""What the golden root of every box holds, whatever its role."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deploys.boot import boot
from deploys.bundle import Archive, Project, bundle
from deploys.manifest import manifest
from deploys.provisiond import provisiond, source
from deploys.settings import Settings
from deploys.stack import stack
from deploys.volume_plan import VolumePlan
from deploys.volumes import volumes


def golden(
    plan: VolumePlan, settings: Settings, python: Archive, copy: Archive, project: Project
) -> tuple[Callable[[], Any], ...]:
    """The deploys of the golden root, in order; the manifest is of all that came before it."""
    return (
        partial(volumes, plan=plan),
        partial(stack, settings=settings),
        partial(bundle, python=python, copy=copy),
        partial(boot, plan=plan, settings=settings),
        partial(provisiond),
        partial(source, settings=settings),
        partial(manifest, settings=settings, project=project),
    )
