"""The present state of a Debian archive."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from deploys.errors import BoxError
from tasks.debian import bootstrap
from tasks.desk import shell

_APT_HELPER = "/usr/lib/apt/apt-helper"
_QUIET = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
_DATE = re.compile(r"^Date: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive in its present state.

    ``lines`` are those of sources.list, ``options`` those of apt.conf. ``digest`` is a hash of the
    signed indexes (InRelease) of all lines, and so of all packages. ``date`` is that of the newest
    index, in seconds since 1970.
    """

    lines: tuple[str, ...]
    options: tuple[str, ...]
    digest: str
    date: int

    def tree(
        self,
        suite: str,
        packages: tuple[str, ...],
        pins: Mapping[str, str] | None = None,
        epoch: int | None = None,
    ) -> bootstrap.Tree:
        """The description of a root tree of its packages, without apt's lists; see ``Tree``."""
        return bootstrap.Tree(
            suite=suite,
            packages=packages,
            mirror=self.lines,
            apt_options=self.options,
            epoch=epoch,
            lists=False,
            pins=tuple(sorted((pins or {}).items())),
        )


def read(suite: str, folder: Path) -> Archive:
    """Read the present state of the archive that apt on this machine uses.

    Args:
        suite: the name of a Debian release, as ``trixie``.
        folder: for temporary files.

    Raises:
        BoxError: apt knows no Debian mirror, or a mirror does not answer.
    """
    lines = bootstrap.sources(suite)
    if not lines:
        raise BoxError("apt on this machine knows no Debian mirror: add one to its sources")
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


def _release(line: str, file: Path) -> str:
    """Download the signed index (InRelease) for a line of sources.list."""
    _, site, suite, _ = line.split()
    address = f"{site.rstrip('/')}/dists/{suite}/InRelease"
    try:
        shell.run([_APT_HELPER, *_QUIET, "download-file", address, file], timeout=120)
    except shell.CommandError as error:
        raise BoxError(f"the mirror of {suite} does not answer: {error}") from error
    text = file.read_text()
    file.unlink()
    return text
