"""What a role adds to the deploys of every box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploys.gateway import PACKAGES, gateway
from deploys.settings import Settings
from deploys.tunnel import tunnel


def role_packages(settings: Settings) -> tuple[str, ...]:
    """The packages that a box of this role has on top of every box's."""
    return PACKAGES if settings.role == "gateway" else ()


def role_deploys(settings: Settings) -> tuple[Callable[[], Any], ...]:
    """The deploys of the role, in order; each may run in a running snapshot too."""
    return (lambda: gateway(),) if settings.role == "gateway" else (lambda: tunnel(),)
