"""How long after power-on a worker asks for its first job, beside a login prompt without a role."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys.errors import BoxError, UnreachableError
from deploys.settings import Settings
from tasks.desk.places import BOX, STATE
from tasks.disks import box_disk, convert
from tasks.guests import bare, credentials
from tasks.guests.qemu import accelerator
from tasks.guests.qemu.hardware import Machine
from tasks.hosts.connection import Host
from tasks.hosts.fleet import connected
from tests.bench.shared.rows import Row, Step, Target
from tests.bench.shared.site import Site, site
from tests.hosts.guest import Guest

_TARGET = Target(high=1.15)
_BOOTS = 2  # of each kind
_HERE = "10.0.2.2"  # this machine, as a guest of QEMU's user network sees it
_KEYS, _ROLE = "/persistent/pipeline/ssh", "/persistent/settings/runsecure"


def worker(step: Step) -> list[Row]:
    """Seconds from a reset to the first reserve, beside those to the prompt on the console.

    One box, in a guest of the bench's own, first without a role.

    Raises:
        BoxError: there is no image of box.build, or the box did not come back.
    """
    convert.look(BOX)
    with (
        tempfile.TemporaryDirectory(prefix="bench-worker-", dir="/var/tmp") as name,
        site(_HERE) as gateway,
    ):
        folder = Path(name)
        with _box(folder) as guest:
            host = connected(guest)
            step("booting the box")
            _wait(host, guest)
            prompts = [
                _boot(
                    guest,
                    step,
                    "the login prompt",
                    lambda since: guest.console.says("login:", since),
                )
                for _ in range(_BOOTS)
            ]
            _wait(host, guest)
            step("making it a worker")
            _make_worker(host, gateway)
            host.close()
            # the first one also writes the boot menu of a box that is shut off
            reserves = [_boot_worker(guest, step, gateway) for _ in range(1 + _BOOTS)][1:]
    what = f"power-on to the first reserve, by that to a login prompt, on {guest.accelerator}"
    return [Row(what, "s", median(reserves), median(prompts), _TARGET)]


def _box(folder: Path) -> Guest:
    settings = Settings()
    identity, given = credentials.make(folder, settings.image.user, folder / "id_ed25519")
    box_disk.read_kernel(BOX, folder / "vmlinuz")
    machine = Machine(
        disks=(bare.overlay(BOX, folder / "root.qcow2"),),
        credentials=given,
        memory=settings.guest.memory,
        cpus=settings.guest.cpus,
    )
    return Guest.start(folder, machine, identity, accelerator.choose(folder / "vmlinuz", STATE))


def _make_worker(host: Host, gateway: Site) -> None:
    """What ``secure`` leaves behind."""
    host.run(f"install -d -m 0700 {_KEYS} && mkdir -p {Path(_ROLE).parent}")
    for name, text in gateway.files.items():
        host.run(f"umask 077; cat >{_KEYS}/{name}", stdin=text.encode())
    told = shlex.quote(f"worker\n{_HERE}\nbench\n")
    host.run(f"printf {told} >{_ROLE} && sync")


def _wait(host: Host, guest: Guest) -> None:
    """Until the guest lets us in; its folder, and with it its console, is gone after a failure."""
    try:
        host.wait(Settings().boot.reboot_deadline)
    except UnreachableError as error:
        raise BoxError(f"{error}, which ends: {guest.console.tail()}") from error


def _boot_worker(guest: Guest, step: Step, gateway: Site) -> float:
    """Press reset; the seconds until a worker of that boot asks for a job."""
    was_gone = False

    def asks(_since: int) -> bool:
        nonlocal was_gone
        if not was_gone:
            gateway.hang_up()
            was_gone = gateway.waiting() == 0
            return False
        return gateway.waiting() > 0

    return _boot(guest, step, "the first reserve", asks)


def _boot(guest: Guest, step: Step, what: str, there: Callable[[int], bool]) -> float:
    """Press reset; the seconds until something is there, told where the console had been."""
    step(f"resetting, until {what}")
    since, began = guest.console.size, time.monotonic()
    guest.reset()
    tries = Retrying(
        retry=retry_if_result(lambda found: not found),
        stop=stop_after_delay(Settings().boot.reboot_deadline),
        wait=wait_fixed(0.1),
    )
    try:
        tries(lambda: there(since))
    except RetryError as error:
        raise BoxError(f"{what} did not come: {guest.console.tail()}") from error
    return time.monotonic() - began
