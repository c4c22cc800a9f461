"""The table of what a box is: a row a deploy, and what ``secure`` can make of a box.

A new part of a box is a row here, a file with its deploy, and its files below ``static/onbox``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import Flag, auto
from functools import partial

from pyinfra.api.deploy import deploy

from deploys.operations import onbox, services
from deploys.operations.boot import marked_snapshot
from deploys.operations.onbox import tree
from deploys.plan.result import VolumePlan
from deploys.reset import volumes
from deploys.reset.boot import boot, removable_path
from deploys.reset.new_machine import machine
from deploys.services import gateway, runner, secure, tunnel
from deploys.services.provisiond import provisiond, source
from deploys.services.status_page import status_page
from deploys.session import Deploy
from deploys.settings import Settings
from deploys.stack import Parts, manifest, stack
from deploys.stack.bundle import Archive, Project, bundle
from deploys.stack.items import no_items, repository

TARGET = "pipeline-box.target"
"""What wants all units that a box is held to: a change that leaves one unwell is not kept."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "worker": (tunnel.UNIT, runner.WORKER),
    "director": (tunnel.UNIT, runner.DIRECTOR),
    "devel": (tunnel.UNIT,),
}
"""What ``secure`` can make of a devel box, and the units that runsecure then starts.

One that ends in ``@.service`` is started for each CPU. All but devel is shut off from the outside.
"""


class Where(Flag):
    """What deploys are applied to."""

    IMAGE = auto()
    """The root of an image, from nothing but packages."""
    GOLDEN = auto()
    """A host's golden root, in maintenance."""
    SNAPSHOT = auto()
    """A running box, by itself: nothing below /boot, no volumes, and nothing that is brought."""
    EMPTIED = auto()
    """The copy of a box that is to be shipped, whose /persistent was emptied."""


EVERYWHERE = ~Where(0)


@dataclass(frozen=True, kw_only=True)
class Box:
    """What every deploy may know; ``fstab`` is that of a machine of our making, if it has none."""

    where: Where
    settings: Settings
    project: Project
    fstab: str = ""


@dataclass(frozen=True, kw_only=True)
class Golden(Box):
    """What a golden root or an image is made of beside: its volumes, and what is brought to it."""

    where: Where = Where.GOLDEN
    plan: VolumePlan
    python: Archive
    copy: Archive
    parts: Parts


def _parts(box: Box) -> Parts | None:
    return box.parts if isinstance(box, Golden) else None


def _devel(settings: Settings) -> bool:
    return settings.role == "devel"


def _gateway(settings: Settings) -> bool:
    return settings.role == "gateway"


def _directs(settings: Settings) -> bool:
    return _gateway(settings) and settings.jobs.director


@dataclass(frozen=True)
class Row:
    """What golden roots and images are given: ``deploys`` makes it of what it needs to know.

    ``of`` says which boxes have it, if not all; these have ``packages`` too, and ``units`` are up.
    """

    deploys: Callable[[Golden], Iterable[Deploy]]
    _: KW_ONLY
    where: Where = Where.IMAGE | Where.GOLDEN
    of: Callable[[Settings], bool] | None = None
    packages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxRow(Row):
    """A row that a Box is enough for; it may run on a running box too, if nothing else is said."""

    deploys: Callable[[Box], Iterable[Deploy]]
    where: Where = Where.IMAGE | Where.GOLDEN | Where.SNAPSHOT


@deploy("Units")
def wanted_by_target(units: Iterable[str]) -> None:
    """The units start with the box, by the target that a trial asks for them."""
    onbox.files(name=f"Install {TARGET}", sources=tree(f"etc/systemd/system/{TARGET}"))
    services.enabled(name=f"Enable {TARGET}", unit=TARGET)
    for unit in units:
        services.enabled(name=f"Enable {unit}", unit=unit, target=TARGET)


ROWS: tuple[Row, ...] = (
    # A snapshot may be given units that are newer than its initrd.
    BoxRow(lambda _: [partial(marked_snapshot, name="Mark of a snapshot")], where=Where.SNAPSHOT),
    BoxRow(
        lambda box: [partial(machine, image=box.settings.image, fstab=box.fstab)],
        where=Where.IMAGE | Where.EMPTIED,
        units=("host-keys.service",),
    ),
    Row(lambda box: [partial(volumes.volumes, plan=box.plan)], packages=volumes.PACKAGES),
    BoxRow(lambda box: [partial(stack, settings=box.settings, parts=_parts(box))]),
    Row(lambda box: [partial(bundle, python=box.python, copy=box.copy)]),
    # Before the menu that makes a host a box: to a later provision its loader is no concern.
    Row(lambda box: [partial(removable_path, plan=box.plan)]),
    Row(
        lambda box: [partial(boot, plan=box.plan, settings=box.settings)],
        units=("resnap-pressure.service",),
    ),
    BoxRow(
        lambda _: [partial(provisiond, roles=ROLES)],
        where=EVERYWHERE,
        units=("provisiond.service",),
    ),
    BoxRow(
        lambda _: [partial(status_page)], units=("status-page.socket", "status-page-gather.timer")
    ),
    # Not applied by a box to itself: what its operator told runsetup would be undone.
    BoxRow(lambda box: [partial(source, settings=box.settings)], where=~Where.SNAPSHOT),
    BoxRow(
        lambda _: [partial(gateway.gateway)],
        of=_gateway,
        packages=gateway.PACKAGES,
        units=("beanstalkd.service", "gateway-owners.service"),
    ),
    BoxRow(lambda _: [partial(tunnel.tunnel)], of=_devel),
    BoxRow(
        lambda box: [partial(runner.runner, settings=box.settings)],
        of=_devel,
        packages=runner.PACKAGES,
    ),
    BoxRow(
        lambda box: [partial(runner.runner, settings=box.settings)],
        of=_directs,
        packages=runner.PACKAGES,
        units=(runner.DIRECTOR,),
    ),
    BoxRow(
        lambda _: [partial(secure.secure)],
        of=_devel,
        packages=secure.PACKAGES,
        units=(secure.UNIT,),
    ),
    BoxRow(
        lambda box: [partial(wanted_by_target, units=units(box.settings, box.where))],
        where=EVERYWHERE,
    ),
    Row(
        lambda box: [
            partial(repository, items=box.parts.items, role=box.settings.role)
            if box.parts.items
            else partial(no_items)
        ]
    ),
    # Last: it is of all that came before it.
    BoxRow(lambda box: [partial(manifest.manifest, settings=box.settings, project=box.project)]),
)


def deploys(box: Box) -> tuple[Deploy, ...]:
    """What makes a box what the table says, in order: of a Box that is not Golden its BoxRows."""
    made = (_of_row(row, box) for row in rows(box.settings, box.where))
    return tuple(each for group in made for each in group)


def _of_row(row: Row, box: Box) -> Iterable[Deploy]:
    if isinstance(row, BoxRow):
        return row.deploys(box)
    return row.deploys(box) if isinstance(box, Golden) else ()


def packages(settings: Settings) -> tuple[str, ...]:
    """The packages that the rows of a box have; what the stack has is not among them."""
    return tuple(name for row in rows(settings, Where.IMAGE) for name in row.packages)


def units(settings: Settings, where: Where) -> tuple[str, ...]:
    """The units that are to be up on a box, whatever ``secure`` makes of it."""
    return tuple(unit for row in rows(settings, where) for unit in row.units)


def rows(settings: Settings, where: Where) -> Iterator[Row]:
    """Those of the table that hold for a box."""
    return (row for row in ROWS if row.where & where and (row.of is None or row.of(settings)))
