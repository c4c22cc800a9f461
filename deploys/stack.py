"""The software that computes, and what the box needs to set itself up."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.onbox import tree
from deploys.operations import onbox, packages
from deploys.settings import Settings

# runsetup fetches with git over whichever transport, and applies with Python.
_OWN = ("python3", "git", "ca-certificates", "openssh-client")


def stack_packages(settings: Settings) -> tuple[str, ...]:
    """The packages that compute, and those that set the box up."""
    return tuple(sorted({*_OWN, *settings.stack.packages}))


@deploy("Stack")
def stack(settings: Settings) -> None:
    """The packages of the parts that come from apt, with Python, git and the box's own helpers."""
    packages.present(
        name="Install packages",
        packages=stack_packages(settings),
        versions=settings.stack.versions,
    )
    onbox.files(name="Helpers", sources=tree("usr/lib/pipeline"))
