"""The state of a Debian archive."""

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
    """An archive as it stands: its lines for sources.list, what they lead to, and since when.

    ``digest`` is over the signed index of every line, which names every package's hash; ``date``
    (seconds since 1970) is when the newest of them was written.
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
        """A root tree of its packages, without apt's lists; the arguments are ``Tree``'s."""
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
