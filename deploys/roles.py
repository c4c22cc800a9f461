"""What a role adds to the deploys of every box."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deploys import gateway
from deploys.settings import Settings


def role_packages(settings: Settings) -> tuple[str, ...]:
    """The packages that a box of this role has on top of every box's."""
    return gateway.PACKAGES if settings.role == "gateway" else ()


def role_deploys(settings: Settings) -> tuple[Callable[[], Any], ...]:
    """The deploys of the role, in order; each may run in a running snapshot too."""
    return (partial(gateway.gateway),) if settings.role == "gateway" else ()
