"""Install provisiond, the service that sets a box up after each reset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyinfra.api.deploy import deploy

from deploys.operations import onbox
from deploys.settings import Settings
from deploys.settings.stack import SETUP, Stack

PROGRAMS = "/usr/lib/provisiond"
FILES = (
    "usr/sbin/provisiond",
    "etc/systemd/system/provisiond.service",
    PROGRAMS.lstrip("/"),
)
LINKS = {f"/persistent/{name}": f"..{PROGRAMS}/{name}" for name in ("runsetup", "runsecure")}
"""The names by which people call the programs, and where they lie."""
RUNSETUP_ARGUMENTS = "/persistent/settings/runsetup"
"""The file with runsetup's arguments: hostname and branch, in a line each."""
PINNED = "/etc/pipeline/runsetup"
"""The file with the setup project's path below the hostname, and its commit, which may be empty."""
SIGNERS = "/etc/pipeline/allowed_signers"
"""The file of those who sign the setup project, as ssh-keygen(1) has it; empty: nobody."""
ROLES = f"{PROGRAMS}/roles"
"""The file of roles for runsecure. A line has a role's name and the units that runsecure starts."""


@deploy("provisiond")
def provisiond(roles: Mapping[str, Iterable[str]]) -> None:
    """Install the service and its programs.

    ``roles`` has the units of each role that ``secure`` can give.
    """
    onbox.files(name="Install provisiond", sources=sources(roles))


def sources(roles: Mapping[str, Iterable[str]]) -> dict[str, onbox.OnboxFile]:
    """The files of provisiond, by their paths on the box."""
    lines = "".join(f"{' '.join((role, *units))}\n" for role, units in roles.items())
    return {**onbox.tree(*FILES), ROLES: onbox.OnboxFile(lines.encode())}


@deploy("Setup source")
def source(settings: Settings) -> None:
    """Write where runsetup fetches the project, if the settings say so, which commit, and whose.

    A box does not apply this to itself, as it would undo what its operator told runsetup, and as
    its golden root is what it believes.
    """
    onbox.files(name="What runsetup takes", sources=setup_policy(settings))
    if settings.setup.hostname:
        lines = f"{settings.setup.hostname}\n{settings.setup.branch}\n"
        onbox.files(
            name="Arguments of runsetup",
            sources={RUNSETUP_ARGUMENTS: onbox.OnboxFile(lines.encode())},
        )
    # provisiond replaces an older version's scripts, when the change is kept.
    for path, target in LINKS.items():
        onbox.linked(name=f"Name {path}", path=path, target=target, replace=False)


def setup_policy(settings: Settings) -> dict[str, onbox.OnboxFile]:
    """The files of the golden root by which runsetup decides what it applies."""
    texts = {
        PINNED: pinned(settings.stack),
        SIGNERS: "".join(map("{}\n".format, settings.setup.signers)),
    }
    return {path: onbox.OnboxFile(text.encode()) for path, text in texts.items()}


def pinned(stack: Stack) -> str:
    """The content of ``PINNED``."""
    part = stack.openkim_pipeline_setup
    name, commit = (part.location, part.version) if part.source == "git" else (SETUP, "")
    return f"{name}\n{commit}\n"
