"""The tasks on the base box: build it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from deploys.sizes import human
from tasks.boxes import build_box
from tasks.building import Build
from tasks.fleet import working
from tasks.host import SETTINGS_HELP, load_settings
from tasks.places import BOX


@task(
    iterable=["set"],
    help={
        **SETTINGS_HELP,
        "out": f"The image's file; not given: {BOX.name} in the state folder.",
        "manifest": "A box's manifest.json: take exactly its versions, or say which are gone.",
        "force": "Replace an image that was finalized, too.",
    },
)
def build(
    _c: Context,
    out: str = "",
    manifest: str = "",
    force: bool = False,
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Make the disk image of a box from nothing, here, without a guest."""
    chosen = load_settings(settings, set)
    began = time.monotonic()
    versions = Path(manifest) if manifest else None
    with working("box", interrupted="no image was made or changed") as progress:
        if out:
            built = Build(chosen, Path(out), progress, versions).run()
        else:
            built = build_box(chosen, progress, versions, force=force)
        progress.done("built")
    print(f"image       {built.path}")
    print(f"size        {human(built.path.stat().st_size)}, of which {human(built.used)} are used")
    print(f"manifest    {built.state.release.get('MANIFEST', '')}")
    print(f"took        {time.monotonic() - began:.0f} s")
