"""The state of a Debian archive, and the package layer that is made from it once."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from filelock import FileLock

from deploys.errors import BoxError
from tasks.machines import bootstrap, shell

_APT_HELPER = "/usr/lib/apt/apt-helper"
_QUIET = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
_KEPT = 3  # layers: a few settings, tried in turn
_DATE = re.compile(r"^Date: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive as it stands: its lines for sources.list, what they lead to, and since when.

    ``digest`` is over the signed index of every line, which names every package's hash; ``date``
    (seconds since 1970) is when the newest of them was written.
    """

    lines: tuple[str, ...]
    options: tuple[str, ...]
    digest: str
    date: int


@dataclass(frozen=True, slots=True)
class Layer:
    """An installed system in a tar file; ``date`` (seconds since 1970) is its archive's."""

    tar: Path
    date: int


def read(suite: str, folder: Path) -> Archive:
    """The archive that this machine's apt uses, for ``suite``, as it stands now.

    Args:
        suite: Debian's name of a release, as ``trixie``.
        folder: where files may lie for a moment.

    Raises:
        BoxError: apt knows no mirror, or one does not answer.
    """
    lines = bootstrap.sources(suite)
    if not lines:
        raise BoxError("apt on this machine knows no Debian mirror; a box needs one")
    with tempfile.TemporaryDirectory(dir=folder, prefix="release-") as name:
        releases = [_release(line, Path(name) / "InRelease") for line in lines]
    dates = [_DATE.search(text) for text in releases]
    if not all(dates):
        raise BoxError("a mirror gave an InRelease file without a date")
    return Archive(
        lines=lines,
        options=bootstrap.relaxations(),
        digest=hashlib.sha256("\0".join(releases).encode()).hexdigest(),
        date=max(int(parsedate_to_datetime(date[1]).timestamp()) for date in dates if date),
    )


def layer(
    archive: Archive,
    suite: str,
    packages: tuple[str, ...],
    folder: Path,
    progress: Callable[[str], None],
    pins: Mapping[str, str] | None = None,
) -> Layer:
    """The packages installed in a tree, made once for what the archive is now.

    ``pins`` are versions that packages are to have if the archive has them.

    Raises:
        BoxError: a package does not exist, or the installation failed.
    """
    tree = bootstrap.Tree(
        suite=suite,
        packages=packages,
        mirror=archive.lines,
        apt_options=archive.options,
        epoch=archive.date,
        lists=False,
        pins=tuple(sorted((pins or {}).items())),
    )
    source = Path(bootstrap.__file__).read_text() + archive.digest + json.dumps(asdict(tree))
    tar = folder / f"layer-{hashlib.sha256(source.encode()).hexdigest()[:16]}.tar"
    with FileLock(tar.with_suffix(".lock")):
        if not tar.exists():
            progress(f"installing Debian {suite} and {len(packages)} packages into a tree")
            bootstrap.make_tree(tar, tree)
            _forget_old(folder, tar)
        tar.touch()
    return Layer(tar, archive.date)


def _forget_old(folder: Path, newest: Path) -> None:
    others = sorted(
        (tar for tar in folder.glob("layer-*.tar") if tar != newest),
        key=lambda tar: tar.stat().st_mtime,
    )
    for tar in others[: -(_KEPT - 1)]:
        tar.unlink()


def _release(line: str, file: Path) -> str:
    """The signed index that a line of sources.list leads to."""
    _, site, suite, _ = line.split()
    address = f"{site.rstrip('/')}/dists/{suite}/InRelease"
    try:
        shell.run([_APT_HELPER, *_QUIET, "download-file", address, file], timeout=120)
    except shell.CommandError as error:
        raise BoxError(f"the mirror of {suite} does not answer: {error}") from error
    text = file.read_text()
    file.unlink()
    return text
