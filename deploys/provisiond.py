"""provisiond: what sets a box up anew after each reset."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys import onbox as box
from deploys.operations import onbox, services
from deploys.parts import SETUP, Stack
from deploys.settings import Settings

UNIT = "provisiond.service"
FILES = (
    "usr/sbin/provisiond",
    f"etc/systemd/system/{UNIT}",
    "persistent/runsetup",
    "persistent/runsecure",
)
REMEMBERED = "/persistent/settings/runsetup"
"""The arguments runsetup remembers: hostname and branch, a line each."""
PINNED = "/etc/pipeline/runsetup"
"""What runsetup takes there: the project's name below the hostname; its commit, or nothing."""


@deploy("provisiond")
def provisiond() -> None:
    """The service and its scripts; ``/persistent`` must be mounted."""
    onbox.files(name="Install provisiond", sources=box.tree(*FILES))
    services.enabled(name=f"Enable {UNIT}", unit=UNIT)


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
            sources={REMEMBERED: onbox.OnboxFile(lines.encode())},
        )


def pinned(stack: Stack) -> str:
    """The content of ``PINNED``."""
    part = stack.openkim_pipeline_setup
    name, commit = (part.location, part.version) if part.source == "git" else (SETUP, "")
    return f"{name}\n{commit}\n"
