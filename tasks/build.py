"""The tasks on the base box: build it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.progress import Progress

from deploys.sizes import human
from tasks.building import Build
from tasks.fleet import one_line
from tasks.host import SETTINGS_HELP, load_settings
from tasks.places import BOX
from tasks.progress import HostProgress, bars


class _Interruptible(HostProgress):
    """Progress that ends the work at its next step when a Ctrl-C was lost.

    Python drops an exception that is raised within a fork, where a build spends much of its time.
    """

    def __init__(self, name: str, frame: Progress) -> None:
        super().__init__(name, frame)
        self._interrupted = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take notice of Ctrl-C, unless whoever started us wants it ignored."""
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def step(self, name: str) -> None:
        self._check()
        super().step(name)

    def operation(self, name: str, number: int, total: int) -> None:
        self._check()
        super().operation(name, number, total)

    def _notice(self, _signal: int, _frame: object) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _check(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt


@task(
    iterable=["set"],
    help={
        **SETTINGS_HELP,
        "out": f"The image's file; not given: {BOX.name} in the state folder.",
        "manifest": "A box's manifest.json: take exactly its versions, or say which are gone.",
    },
)
def build(
    _c: Context,
    out: str = "",
    manifest: str = "",
    set: Sequence[str] | None = None,  # noqa: A002 - the flag is --set
    settings: str = "",
) -> None:
    """Make the disk image of a box from nothing, here, without a guest."""
    chosen = load_settings(settings, set)
    began = time.monotonic()
    with one_line(), bars() as frame:
        progress = _Interruptible("box", frame)
        BOX.parent.mkdir(parents=True, exist_ok=True)
        try:
            with progress.listening():
                versions = Path(manifest) if manifest else None
                built = Build(chosen, Path(out) if out else BOX, progress, versions).run()
        except KeyboardInterrupt as interrupt:
            raise Exit("interrupted: no image was made or changed", code=130) from interrupt
        progress.done("built")
    print(f"image       {built.path}")
    print(f"size        {human(built.path.stat().st_size)}, of which {human(built.used)} are used")
    print(f"manifest    {built.state.release.get('MANIFEST', '')}")
    print(f"took        {time.monotonic() - began:.0f} s")
