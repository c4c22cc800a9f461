"""Starts the local guest, and makes it first: of the box's image, or as a bare host."""

from __future__ import annotations

from deploys.errors import BoxError
from deploys.settings import Settings
from tasks.boxes.image import box_image
from tasks.desk import shell
from tasks.desk.places import GUEST, STATE, USER_KEY
from tasks.desk.progress import HostProgress
from tasks.guests import Guest, Order, providers

# Where a bare guest has its second disk; see tasks/guests/qemu/hardware.py.
SPARE = "/dev/vdb"


def start(
    settings: Settings,
    progress: HostProgress,
    *,
    bare: bool = False,
    provider: str = "",
    in_file: int = 0,
) -> Guest:
    """The local guest, running: made if there is none, powered on if it is off.

    A new one is the box of ``inv box.build``, or with ``bare`` a plain host with a spare disk, or
    with one disk that has room for a file of ``in_file`` bytes. ``provider`` is a name in
    ``providers.PROVIDERS``; empty: that of the guest, else the first.

    Raises:
        BoxError: it cannot be made or started, or there is a guest of another kind.
    """
    row = providers.chosen(GUEST, provider)
    if bare and not row.bare:
        others = " or ".join(each.name for each in providers.PROVIDERS.values() if each.bare)
        raise BoxError(
            f"{row.title} runs no bare host: leave out --bare or say --provider {others}"
        )
    for program, package in row.programs.items():
        shell.find(program, package)
    order = Order(
        GUEST,
        STATE,
        USER_KEY,
        settings,
        bare=bare,
        box_image=lambda: box_image(settings, progress),
        step=progress.step,
        in_file=in_file,
    )
    return row.start(order)
