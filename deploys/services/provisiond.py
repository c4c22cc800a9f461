"""Install provisiond, the service that sets a box up after each reset."""

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
"""The file with runsetup's arguments: hostname and branch, in a line each."""
PINNED = "/etc/pipeline/runsetup"
"""The file with the setup project's path below the hostname, and its commit, which may be empty."""
ROLES = "/persistent/roles"
"""The file of roles for runsecure. A line has a role's name and the units that runsecure starts.

It lies beside runsecure, so that both are always of one version.
"""


@deploy("provisiond")
def provisiond(roles: Mapping[str, Iterable[str]]) -> None:
    """Install the service and its scripts. ``/persistent`` must be mounted.

    ``roles`` has the units of each role that ``secure`` can give.
    """
    onbox.files(name="Install provisiond", sources=sources(roles))


def sources(roles: Mapping[str, Iterable[str]]) -> dict[str, onbox.OnboxFile]:
    """The files of provisiond, by their paths on the box."""
    lines = "".join(f"{' '.join((role, *units))}\n" for role, units in roles.items())
    return {**onbox.tree(*FILES), ROLES: onbox.OnboxFile(lines.encode())}


@deploy("Setup source")
def source(settings: Settings) -> None:
    """Write where runsetup fetches the project, if the settings say so, and which commit.

    A box does not apply this to itself, as it would undo what its operator told runsetup.
    """
    onbox.files(
        name="What runsetup takes",
        sources={PINNED: onbox.OnboxFile(pinned(settings.stack).encode())},
    )
    if settings.setup.hostname:
        lines = f"{settings.setup.hostname}\n{settings.setup.branch}\n"
        onbox.files(
            name="Arguments of runsetup",
            sources={RUNSETUP_ARGUMENTS: onbox.OnboxFile(lines.encode())},
        )


def pinned(stack: Stack) -> str:
    """The content of ``PINNED``."""
    part = stack.openkim_pipeline_setup
    name, commit = (part.location, part.version) if part.source == "git" else (SETUP, "")
    return f"{name}\n{commit}\n"
