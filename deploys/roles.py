"""What a role adds to the deploys of every box."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deploys import gateway, runner, secure
from deploys.settings import Settings
from deploys.tunnel import tunnel


def role_packages(settings: Settings) -> tuple[str, ...]:
    """The packages that a box of this role has on top of every box's."""
    if settings.role == "gateway":
        return (*gateway.PACKAGES, *(runner.PACKAGES if settings.jobs.director else ()))
    return (*runner.PACKAGES, *secure.PACKAGES)


def role_deploys(settings: Settings) -> tuple[Callable[[], Any], ...]:
    """The deploys of the role, in order; each may run in a running snapshot too."""
    runs = partial(runner.runner, settings=settings)
    if settings.role == "gateway":
        return (lambda: gateway.gateway(), *((runs,) if settings.jobs.director else ()))
    return (lambda: tunnel(), runs, lambda: secure.secure())
