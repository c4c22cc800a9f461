"""Makes the disk image of a new box from a local guest in maintenance."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from deploys.box import Box, Where, deploys
from deploys.errors import PreflightError
from deploys.facts.state import HostState, State
from deploys.operations.seal import no_ssh_keys, sealed
from deploys.plan.sizes import human
from deploys.session import Session, Target
from deploys.settings import Settings
from tasks.boxes.build import Built, build_lock
from tasks.boxes.image import note_finalized
from tasks.debian.chroot import environment
from tasks.desk import loop, whole_files
from tasks.desk.places import BOX, IMAGES
from tasks.desk.progress import HostProgress
from tasks.disks import box_sealed, convert
from tasks.guests import Guest
from tasks.guests.providers import PROVIDERS
from tasks.hosts.expectations import settings_of
from tasks.hosts.fleet import connected
from tasks.hosts.provision import Provision, Request
from tasks.stack import bundle


class Finalizing:
    """Makes an image file from a guest; ``progress`` shows the steps.

    What cannot be undone is done to the copy only: the guest keeps its keys and its logs.
    """

    def __init__(self, guest: Guest, out: Path, progress: HostProgress) -> None:
        self._guest = guest
        self._out = out.absolute()
        self._progress = progress

    def run(self) -> Built:
        """Update what depends on the golden root, power the guest off, copy its disk and seal it.

        Raises:
            BoxError: the guest cannot be shipped, is not in maintenance, or a step failed. Then
                there is no new file, and the guest can be started again.
        """
        loop.require_root("making a box's disk image")
        guest = shippable(self._guest)
        disk = guest.root_disk
        whole_files.require_place(self._out)
        files = convert.chain(disk)
        # The image that the guest's disk is based on may be replaced: the guest has its own link.
        if not (self._out.exists() and any(map(self._out.samefile, files))):
            whole_files.require_unused(self._out)
        self._require_room(sum(files.values()))
        with build_lock(self._out):
            settings = self._in_guest(guest)
            with whole_files.replaced(self._out) as copy:
                self._progress.step("copying the guest's disk")
                convert.raw(convert.look(disk), copy, self._progress.amount)
                state = self._seal(copy, settings, guest.login.user)
                self._progress.step("flushing it to the disk")
                if self._out == BOX:
                    note_finalized(copy)
        return Built(self._out, self._out.stat().st_blocks * 512, state)

    def _require_room(self, needed: int) -> None:
        """Check this before the guest is changed; if the copy needs more, it fails in one line."""
        free = shutil.disk_usage(self._out.parent).free
        if free < needed:
            raise PreflightError(
                f"{self._out.parent} has {human(free)} free, a copy of the guest's disk may need "
                f"{human(needed)}"
            )

    def _in_guest(self, guest: Guest) -> Settings:
        """Update the golden root and power the guest off; returns the settings of the box."""
        host = connected(guest)
        try:
            self._progress.step("looking at the guest")
            settings = settings_of(host)
            provision = Provision(host, settings, Request(), self._progress)
            with host.locked("box.finalize"):
                provision.finalize(maintain="inv maintain", history=False)
        finally:
            host.close()
        self._progress.step("powering the guest off")
        guest.halt(settings.boot.reboot_deadline)
        return settings

    def _seal(self, copy: Path, settings: Settings, user: str) -> HostState:
        """Make the copy the disk of a new box, like one of box.build."""
        self._progress.step("sealing the copy")
        box_sealed.empty(copy, settings.volumes)
        image = settings.image.model_copy(update={"user": user})
        box = Box(
            where=Where.EMPTIED,
            settings=settings.model_copy(update={"image": image}),
            project=bundle.project_version(),
        )
        # In two passes, as the second must see that the keys are gone.
        passes = (
            (
                partial(no_ssh_keys, name="Remove the SSH keys of all users"),
                partial(sealed, name="Seal the root"),
            ),
            deploys(box),
        )
        with box_sealed.opened(copy, settings.volumes, IMAGES) as root:
            target = Target("the image", chroot=root, environment=environment())
            for each in passes:
                with Session(target, self._progress) as session:
                    session.prepare(each)
                    session.run()
            with Session(target) as session:
                return session.fact(State)


def shippable(guest: Guest) -> Guest:
    """The guest, if its disk can be shipped as a box.

    Raises:
        PreflightError: it is off, was a bare host, or its provider's guests cannot be shipped.
    """
    row = PROVIDERS[guest.provider]
    if not row.finalizes:
        other = next(each for each in PROVIDERS.values() if each.finalizes)
        raise PreflightError(
            f"the guest is {row.title}'s: make the change in one of {other.title}, "
            f"inv up --provider {other.name}"
        )
    if not guest.is_box:
        raise PreflightError(
            "the guest was a bare host: only a guest that inv up made from a box can be shipped"
        )
    if not guest.alive:
        raise PreflightError("the guest is off: inv up starts it, inv maintain comes next")
    return guest
