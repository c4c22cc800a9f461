"""The package layer: a filesystem with a box's packages, kept while the archive does not change.

mmdebstrap installs straight into that filesystem. A tar file in between would only cost time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial as bound
from pathlib import Path

from filelock import FileLock

from tasks.debian import apt, bootstrap
from tasks.debian.archive import Archive
from tasks.desk import loop, shell, whole_files

ROOT = "root"
"""The folder of the layer's filesystem that holds the root tree."""

_SIZE = 64 * 2**30  # more than any layer needs; the file is sparse
_KEPT = 3  # layers, so that one can go back and forth between settings


@dataclass(frozen=True, slots=True)
class Layer:
    """A file with an ext4 filesystem, which has an installed system in its folder ``root``.

    ``date`` is that of the archive, in seconds since 1970.
    """

    file: Path
    date: int

    @property
    def size(self) -> int:
        """The room that the file takes on the disk, in bytes."""
        return self.file.stat().st_blocks * 512


@contextmanager
def layer(
    archive: Archive,
    suite: str,
    packages: tuple[str, ...],
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None = None,
) -> Iterator[Layer]:
    """Yield the layer of these packages; it is made unless there is one for the archive's state.

    Do not write to it: copy it. apt prefers the versions in ``pins``.

    Raises:
        BoxError: a package does not exist or is virtual, or the installation failed.
    """
    tree = archive.tree(suite, packages, pins, epoch=archive.date)
    source = Path(bootstrap.__file__).read_text() + archive.digest + json.dumps(asdict(tree))
    kept = folder / f"layer-{hashlib.sha256(source.encode()).hexdigest()[:16]}.ext4"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            apt.require(packages, archive, folder)
            progress(f"installing Debian {suite} and {len(packages)} packages")
        with whole_files.made_once(kept, bound(make, tree)) as file:
            yield Layer(file, archive.date)
        _forget_old(folder, kept)


def make(tree: bootstrap.Tree, file: Path) -> None:
    """Make a filesystem in a file and install a system in it.

    Raises:
        BoxError: a package does not exist, the installation failed, or the disk is full.
    """
    folder = file.parent
    loop.make_scratch(file, _SIZE)
    with (
        loop.attached(file) as device,
        loop.temporary_folder(folder) as place,
        loop.scratch_mounted(device, place),
    ):
        bootstrap.fill_folder(place / ROOT, tree, folder)
        # lvm2's postinst makes nodes of this machine's device-mapper there.
        shutil.rmtree(place / ROOT / "dev/mapper", ignore_errors=True)
        loop.flush(place, folder)
        # Free the blocks of downloaded packages. If that fails, the file is only larger.
        shell.run(["fstrim", place], check=False)


def _forget_old(folder: Path, newest: Path) -> None:
    newest.touch()
    others = sorted(
        (file for file in folder.glob("layer-*") if file.suffix != ".lock" and file != newest),
        key=lambda file: file.stat().st_mtime,
    )
    for file in others[: -(_KEPT - 1)]:
        file.unlink()
