"""The software that computes, and what the box needs to set itself up."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api.deploy import deploy

from deploys.operations import onbox, packages
from deploys.operations.leftovers import no_old_files, no_prefixes
from deploys.operations.onbox import tree
from deploys.operations.packages import LocalPackage
from deploys.settings import Settings
from deploys.settings.stack import BUILT, DEFAULTS, package_name
from deploys.stack.items import Items

_KIMPY = "openkim-python"
# runsetup fetches with git, over https or ssh, and applies deploys with Python.
_OWN = ("python3", "git", "ca-certificates", "openssh-client")


@dataclass(frozen=True)
class Parts:
    """What a stack has besides Debian's packages: packages that were built here, and items.

    If a part should be built and is not among ``packages``, it could not be: the box keeps what it
    has.
    """

    packages: tuple[LocalPackage, ...] = ()
    items: Items | None = None


def stack_packages(settings: Settings) -> tuple[str, ...]:
    """Debian's packages that a box computes with, and those that it sets itself up with."""
    return tuple(sorted({*_OWN, *settings.stack.from_archive}))


@deploy("Stack")
def stack(settings: Settings, parts: Parts | None = None) -> None:
    """Install the packages of all parts, Python, git and the box's own helpers.

    Without ``parts``, as on the box itself, packages that were built elsewhere stay as they are.
    """
    wanted = settings.stack
    absent = [package_name(part) for part in BUILT if part not in wanted.built]
    stay = {name for row in DEFAULTS.values() for name in row.location.split()} - wanted.replaced
    packages.present(
        name="Install packages",
        packages=stack_packages(settings),
        versions=wanted.versions,
        local=parts.packages if parts else (),
        absent=absent if parts else (),
        stay=sorted(stay),
    )
    if parts:
        made = {each.name for each in parts.packages}
        no_prefixes(
            name="Nothing of the stack beside packages",
            keep_kimpy=_KIMPY in wanted.built and package_name(_KIMPY) not in made,
        )
        no_old_files(name="Nothing of older versions")
    onbox.files(name="Helpers", sources=tree("usr/lib/pipeline"))
