"""What the golden root of a box holds: what every one has, and what its role adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from deploys.boot import boot, removable_path
from deploys.bundle import Archive, Project, bundle
from deploys.compiled import Compiled, compiled
from deploys.compiled import dropped as dropped_compiled
from deploys.manifest import manifest
from deploys.modules import Modules, dropped, modules
from deploys.parts import COMPILED, PURE
from deploys.provisiond import provisiond, source
from deploys.repository import Items, repository
from deploys.repository import dropped as dropped_repository
from deploys.roles import role_deploys
from deploys.settings import Settings
from deploys.stack import stack
from deploys.status_page import status_page
from deploys.volume_plan import VolumePlan
from deploys.volumes import volumes


@dataclass(frozen=True)
class Parts:
    """What the stack has beside packages: modules of wheels, what was compiled, items."""

    modules: tuple[Modules, ...] = ()
    compiled: tuple[Compiled, ...] = ()
    items: Items | None = None


def golden(
    plan: VolumePlan,
    settings: Settings,
    python: Archive,
    copy: Archive,
    project: Project,
    parts: Parts,
) -> tuple[Callable[[], Any], ...]:
    """The deploys of the golden root, in order; the manifest is of all that came before it.

    Without modules of kimpy the box keeps those it has, if any: no package of Debian's has them.
    """
    had = {each.name for each in parts.modules} | {each.name for each in parts.compiled}
    return (
        partial(volumes, plan=plan),
        partial(stack, settings=settings),
        partial(dropped, names=[name for name in PURE if name not in had]),
        *(partial(modules, modules=each) for each in parts.modules),
        partial(dropped_compiled, names=[name for name in COMPILED if name not in had]),
        *(partial(compiled, compiled=each) for each in parts.compiled),
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
