"""provisiond: what sets a box up anew after each reset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyinfra.api.deploy import deploy

from deploys.operations import onbox
from deploys.settings import Settings
from deploys.settings.stack import SETUP, Stack

FILES = (
    "usr/sbin/provisiond",
    "etc/systemd/system/provisiond.service",
    "persistent/runsetup",
    "persistent/runsecure",
)
RUNSETUP_ARGUMENTS = "/persistent/settings/runsetup"
"""The arguments runsetup remembers: hostname and branch, a line each."""
PINNED = "/etc/pipeline/runsetup"
"""What runsetup takes there: the project's name below the hostname; its commit, or nothing."""
ROLES = "/persistent/roles"
"""What runsecure knows of roles, a line each: the name, and the units that it starts.

Beside it, so that the two are always of one version.
"""


@deploy("provisiond")
def provisiond(roles: Mapping[str, Iterable[str]]) -> None:
    """The service and its scripts; ``/persistent`` must be mounted.

    ``roles`` are the units of each role that ``secure`` gives.
    """
    onbox.files(name="Install provisiond", sources=sources(roles))


def sources(roles: Mapping[str, Iterable[str]]) -> dict[str, onbox.OnboxFile]:
    """The files, by their paths on the box."""
    lines = "".join(f"{' '.join((role, *units))}\n" for role, units in roles.items())
    return {**onbox.tree(*FILES), ROLES: onbox.OnboxFile(lines.encode())}


@deploy("Setup source")
def source(settings: Settings) -> None:
    """Where runsetup is to take the project from, when the settings say so, and which commit of it.

    Not applied by the box to itself: what its operator told runsetup would be undone.
    """
    onbox.files(
        name="What runsetup takes",
        sources={PINNED: onbox.OnboxFile(pinned(settings.stack).encode())},
    )
    if settings.setup.hostname:
        lines = f"{settings.setup.hostname}\n{settings.setup.branch}\n"
        onbox.files(
            name="Remember runsetup's arguments",
            sources={RUNSETUP_ARGUMENTS: onbox.OnboxFile(lines.encode())},
        )


def pinned(stack: Stack) -> str:
    """The content of ``PINNED``."""
    part = stack.openkim_pipeline_setup
    name, commit = (part.location, part.version) if part.source == "git" else (SETUP, "")
    return f"{name}\n{commit}\n"
