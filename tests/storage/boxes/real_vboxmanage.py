"""The real VBoxManage as a program on PATH, as the tasks call it; see
tests/storage/boxes/virtualbox.py.

Between two calls its daemon lives on, as it does for a user.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.desk import loop
from tests.storage.boxes.virtualbox import installed

_PROGRAM = """\
#!/bin/sh
exec env -i HOME=/root PATH=/usr/bin:/usr/sbin LANG=C.UTF-8 \\
    chroot {} /usr/lib/virtualbox/VBoxManage "$@"
"""


@contextlib.contextmanager
def on_path(folder: Path, shared: Path) -> Iterator[Path]:
    """The folder that PATH is to begin with; VirtualBox sees ``shared``, by its own name."""
    root, programs = installed(folder).root, folder / "bin"
    programs.mkdir()
    program = programs / "VBoxManage"
    program.write_text(_PROGRAM.format(root))
    program.chmod(0o755)
    place = root / shared.relative_to("/")
    for each in (place, *(root / name for name in ("root", "run", "sys", "tmp"))):
        each.mkdir(parents=True, exist_ok=True)
    with loop.chroot(root), loop.mounted(shared, place, "--bind"):
        try:
            yield programs
        finally:
            _wait_for_service(root)


def _wait_for_service(root: Path) -> None:
    """VBoxSVC ends some seconds after the last VBoxManage that it served."""
    deadline = time.monotonic() + 60
    while _inside(root):
        assert time.monotonic() < deadline, "VBoxSVC did not end"
        time.sleep(0.2)


def _inside(root: Path) -> bool:
    for link in Path("/proc").glob("[0-9]*/root"):
        with contextlib.suppress(OSError):
            if link.readlink() == root:
                return True
    return False
