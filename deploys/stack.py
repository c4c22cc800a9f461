"""The software that computes, and what the box needs to set itself up."""

from __future__ import annotations

from pyinfra.api.deploy import deploy

from deploys.onbox import tree
from deploys.operations import onbox, packages
from deploys.settings import Settings

# runsetup fetches with git over whichever transport, and applies with Python.
_OWN = ("python3", "git", "ca-certificates", "openssh-client")


@deploy("Stack")
def stack(settings: Settings) -> None:
    """The packages of ``settings.stack.packages``, with Python, git and the box's own helpers."""
    packages.present(name="Install packages", packages=sorted({*_OWN, *settings.stack.packages}))
    onbox.files(name="Helpers", sources=tree("usr/lib/pipeline"))
