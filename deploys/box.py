"""The table of what a box is: its deploys, row by row, and the roles that ``secure`` can make.

To give boxes something new, add a row here, a file with its deploy, and its files below
``static/onbox``.
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
"""The target that wants each unit that must be up; a trial undoes a change that breaks one."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "worker": (tunnel.UNIT, runner.WORKER),
    "director": (tunnel.UNIT, runner.DIRECTOR),
    "devel": (tunnel.UNIT,),
}
"""What ``secure`` can make of a devel box, and the units that runsecure then starts.

A unit that ends in ``@.service`` is started once for each CPU. Each role but devel is shut off
from the outside.
"""


UPGRADES = ("apt-daily-upgrade.timer", "apt-daily.timer")
"""Timers that every box masks.

At each boot they would upgrade the snapshot anew: the root would not be what its manifest says.
"""


class Where(Flag):
    """What a deploy is applied to."""

    IMAGE = auto()
    """The root of a new image, which has packages and nothing else."""
    GOLDEN = auto()
    """A host's golden root, in maintenance."""
    SNAPSHOT = auto()
    """A running box by itself: without volumes, files below /boot and what a desk brings."""
    EMPTIED = auto()
    """The copy of a box that will be shipped; its /persistent is empty."""


EVERYWHERE = ~Where(0)


@dataclass(frozen=True, kw_only=True)
class Box:
    """What every deploy may use; ``fstab`` is that of a new machine, empty if it has one."""

    where: Where
    settings: Settings
    project: Project
    fstab: str = ""


@dataclass(frozen=True, kw_only=True)
class Golden(Box):
    """What deploys of golden roots and images may use too: the volumes, and files of the desk."""

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
    """Some deploys of golden roots and images; ``deploys`` makes them.

    ``where`` and ``of`` say which boxes get them (``of`` None: all). These boxes also get
    ``packages``, and ``units`` must be up on them.
    """

    deploys: Callable[[Golden], Iterable[Deploy]]
    _: KW_ONLY
    where: Where = Where.IMAGE | Where.GOLDEN
    of: Callable[[Settings], bool] | None = None
    packages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxRow(Row):
    """A row that needs no more than a Box: by default it is applied to a running box, too."""

    deploys: Callable[[Box], Iterable[Deploy]]
    where: Where = Where.IMAGE | Where.GOLDEN | Where.SNAPSHOT


@deploy("Units")
def wanted_by_target(units: Iterable[str], others: Iterable[str] = ()) -> None:
    """Install the target, and have it start the units; a trial checks what the target wants.

    It no longer starts ``others``, which earlier settings may have asked for.
    """
    onbox.files(name=f"Install {TARGET}", sources=tree(f"etc/systemd/system/{TARGET}"))
    services.enabled(name=f"Enable {TARGET}", unit=TARGET)
    for unit in units:
        services.enabled(name=f"Enable {unit}", unit=unit, target=TARGET)
    for unit in others:
        services.disabled(name=f"Disable {unit}", unit=unit, target=TARGET)


ROWS: tuple[Row, ...] = (
    # The initrd of a snapshot may be too old to make this mark, which units need.
    BoxRow(lambda _: [partial(marked_snapshot, name="Mark of a snapshot")], where=Where.SNAPSHOT),
    BoxRow(
        lambda box: [partial(machine, image=box.settings.image, fstab=box.fstab)],
        where=Where.IMAGE | Where.EMPTIED,
        units=("host-keys.service",),
    ),
    Row(lambda box: [partial(volumes.volumes, plan=box.plan)], packages=volumes.PACKAGES),
    BoxRow(lambda box: [partial(stack, settings=box.settings, parts=_parts(box))]),
    Row(lambda _: [partial(services.masked, name="Mask apt's timers", units=UPGRADES)]),
    Row(lambda box: [partial(bundle, python=box.python, copy=box.copy)]),
    # Before the boot menu, which makes the host a box: provision leaves the loader of a box alone.
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
    # Not in a snapshot: it would undo what the operator told runsetup.
    BoxRow(lambda box: [partial(source, settings=box.settings)], where=~Where.SNAPSHOT),
    BoxRow(
        lambda box: [partial(gateway.gateway, settings=box.settings.gateway)],
        of=_gateway,
        packages=gateway.PACKAGES,
        units=gateway.UNITS,
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
        lambda box: [
            partial(
                wanted_by_target,
                units=units(box.settings, box.where),
                others=others(box.settings, box.where),
            )
        ],
        where=EVERYWHERE,
    ),
    Row(
        lambda box: [
            partial(repository, items=box.parts.items, role=box.settings.role)
            if box.parts.items
            else partial(no_items)
        ]
    ),
    # Last: it describes what all other rows made.
    BoxRow(lambda box: [partial(manifest.manifest, settings=box.settings, project=box.project)]),
)


def deploys(box: Box) -> tuple[Deploy, ...]:
    """The deploys of a box in the table's order; a Box that is not Golden gets BoxRows only."""
    made = (_of_row(row, box) for row in rows(box.settings, box.where))
    return tuple(each for group in made for each in group)


def _of_row(row: Row, box: Box) -> Iterable[Deploy]:
    if isinstance(row, BoxRow):
        return row.deploys(box)
    return row.deploys(box) if isinstance(box, Golden) else ()


def packages(settings: Settings) -> tuple[str, ...]:
    """The Debian packages of a box's rows, without those of its stack."""
    return tuple(name for row in rows(settings, Where.IMAGE) for name in row.packages)


def units(settings: Settings, where: Where) -> tuple[str, ...]:
    """The units that must be up on a box, whatever ``secure`` makes of it."""
    return tuple(unit for row in rows(settings, where) for unit in row.units)


def others(settings: Settings, where: Where) -> tuple[str, ...]:
    """The units that must be up only on boxes with other settings."""
    every = (unit for row in ROWS if row.where & where for unit in row.units)
    return tuple(sorted({*every} - {*units(settings, where)}))


def rows(settings: Settings, where: Where) -> Iterator[Row]:
    """The rows of the table that apply to a box."""
    return (row for row in ROWS if row.where & where and (row.of is None or row.of(settings)))
