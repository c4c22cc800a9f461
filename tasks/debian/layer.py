"""The packages of a box, installed in a filesystem once for what the archive holds.

mmdebstrap installs them where a build goes on with them: a tar file on the way would be written,
read and unpacked for nothing, and what it was made from removed.
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

from tasks.debian import bootstrap
from tasks.debian.archive import Archive
from tasks.desk import loop, shell, whole_files

ROOT = "root"
"""The folder of the filesystem in which the system is."""

_SIZE = 64 * 2**30  # more than any of packages; the file takes what is used
_KEPT = 3  # layers: a few settings, tried in turn


@dataclass(frozen=True, slots=True)
class Layer:
    """A file with an ext4 filesystem, and in that an installed system, in the folder ``root``.

    ``date`` (seconds since 1970) is its archive's.
    """

    file: Path
    date: int

    @property
    def size(self) -> int:
        """What the file takes, in bytes."""
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
    """The packages installed, which is done once for what the archive is now.

    It is not to be written to. ``pins`` are versions that packages are to have if the archive has
    them.

    Raises:
        BoxError: a package does not exist, or the installation failed.
    """
    tree = archive.tree(suite, packages, pins, epoch=archive.date)
    source = Path(bootstrap.__file__).read_text() + archive.digest + json.dumps(asdict(tree))
    kept = folder / f"layer-{hashlib.sha256(source.encode()).hexdigest()[:16]}.ext4"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            progress(f"installing Debian {suite} and {len(packages)} packages")
        with whole_files.made_once(kept, bound(make, tree)) as file:
            yield Layer(file, archive.date)
        _forget_old(folder, kept)


def make(tree: bootstrap.Tree, file: Path) -> None:
    """Install a system in the file of a filesystem that is made for it.

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
        # The nodes of this machine's device-mapper, by lvm2's postinst.
        shutil.rmtree(place / ROOT / "dev/mapper", ignore_errors=True)
        loop.flush(place, folder)
        # What was only downloaded; where the file can have no holes, it is kept and copied too.
        shell.run(["fstrim", place], check=False)


def _forget_old(folder: Path, newest: Path) -> None:
    newest.touch()
    others = sorted(
        (file for file in folder.glob("layer-*") if file.suffix != ".lock" and file != newest),
        key=lambda file: file.stat().st_mtime,
    )
    for file in others[: -(_KEPT - 1)]:
        file.unlink()
