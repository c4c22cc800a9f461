"""The task that ships the base box."""

from __future__ import annotations

import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploys.errors import PreflightError
from deploys.settings import Settings
from deploys.sizes import human
from tasks.fleet import one_line
from tasks.formats import FORMATS
from tasks.host import SETTINGS_HELP, load_settings
from tasks.places import BOX, PACKAGES
from tasks.progress import HostProgress, bars
from tasks.shipping import Packaged, Packaging


@task(
    iterable=["set", "format"],
    help={
        **SETTINGS_HELP,
        "image": f"The disk image; not given: {BOX.name} in the state folder.",
        "out": f"The folder of the packages; not given: {PACKAGES.name} in the state folder.",
        "format": f"One of {', '.join(FORMATS)}, any number of times; not given: all.",
        "box-version": "Of the box, as 1.2.0; not given: package.version of the settings.",
        "force": "Replace what the folder has of this version.",
    },
)
def package(
    _c: Context,
    image: str = "",
    out: str = "",
    format: Sequence[str] | None = None,  # noqa: A002 - the flag is --format
    box_version: str = "",
    force: bool = False,
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Pack a box's disk image for Vagrant, VirtualBox and QEMU, with a catalog."""
    version = [f"package.version={box_version}"] if box_version else []
    chosen = load_settings(settings, [*(set or ()), *version])
    began = time.monotonic()
    with one_line():
        formats = select(format or ())
        packaged = _package(Path(image or BOX), Path(out or PACKAGES), chosen, formats, force)
    for name, file in packaged.files.items():
        print(f"{name:<12}{file}, {human(file.stat().st_size)}")
    print(f"took        {time.monotonic() - began:.0f} s")


def select(names: Sequence[str]) -> list[str]:
    """The formats that names mean, in the order of the table; all without a name.

    Raises:
        PreflightError: there is none of that name.
    """
    for name in names:
        if name not in FORMATS:
            [nearest] = get_close_matches(name, FORMATS, n=1, cutoff=0)
            raise PreflightError(f"there is no format {name!r}; did you mean {nearest!r}?")
    return [name for name in FORMATS if name in names or not names]


def _package(
    image: Path, out: Path, settings: Settings, formats: Sequence[str], force: bool
) -> Packaged:
    with bars() as frame:
        progress = {name: HostProgress(name, frame) for name in formats}
        try:
            return Packaging(image, out, settings, progress, force=force).run()
        except KeyboardInterrupt as interrupt:
            raise Exit("interrupted: no package was made or changed", code=130) from interrupt
