"""The task that makes of the local guest, changed in maintenance, the base box."""

from __future__ import annotations

import time
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploys.sizes import human
from tasks.boxes import is_replaceable
from tasks.finalizing import Finalizing
from tasks.fleet import one_line
from tasks.machines.providers import load
from tasks.places import BOX, GUEST
from tasks.progress import InterruptibleProgress, bars
from tasks.questions import confirm


@task(
    help={
        "out": f"The image's file; not given: {BOX.name} in the state folder.",
        "force": "Do not ask before a file is replaced that cannot be built again.",
    }
)
def finalize(_c: Context, out: str = "", force: bool = False) -> None:
    """Make the local guest, changed in maintenance, the base box: an image as box.build makes one.

    In the guest: initrds, GRUB's entries, the project's files and the manifest are made anew, and
    it is powered off. Its disk is copied; the copy loses all SSH keys, the machine's ID,
    histories, logs, caches and what was in /persistent, gets Vagrant's login back and is trimmed.
    The guest itself keeps what it has; inv up starts it.
    """
    image = Path(out or BOX).absolute()
    began = time.monotonic()
    with one_line():
        guest = load(GUEST)
    if not force and not is_replaceable(image):
        confirm(f"{image} will be replaced.")
    with one_line(), bars() as frame:
        progress = InterruptibleProgress("guest", frame)
        try:
            with progress.listening():
                made = Finalizing(guest, image, progress).run()
        except KeyboardInterrupt as interrupt:
            raise Exit(
                "interrupted: no image was made or changed; inv up starts the guest if it is off",
                code=130,
            ) from interrupt
        progress.done("finalized")
    print(f"image       {made.path}")
    print(f"size        {human(made.path.stat().st_size)}, of which {human(made.used)} are used")
    print(f"manifest    {made.state.release.get('MANIFEST', '')}")
    print("ship it     bin/inv box.package" + (f" --image {made.path}" if out else ""))
    print(f"took        {time.monotonic() - began:.0f} s")
