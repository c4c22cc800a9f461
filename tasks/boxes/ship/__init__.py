"""Packs a box's disk image in the formats it is shipped in, with checksums and a catalog."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploys.errors import BoxError, PreflightError
from deploys.settings import Settings
from tasks.boxes.ship import catalog, tarball, vagrantfile
from tasks.boxes.ship.formats import FORMATS, Disk, Format, stem
from tasks.desk import whole_files
from tasks.desk.places import ROOT
from tasks.desk.progress import HostProgress
from tasks.disks import convert
from tasks.disks.identifiers import source_date_epoch

# The time of files in archives by default: 1980-01-01, the earliest that every format can hold.
_TIME = 315_532_800
_SUMS = "SHA256SUMS"
_FOR_USER = ROOT / "static" / "foruser" / "Vagrantfile"


class _StoppedError(BoxError):
    """Another format failed, or the user interrupted the work."""


class Packaging:
    """Packs one image; the progress of a format's name shows the steps of that format."""

    def __init__(
        self,
        image: Path,
        out: Path,
        settings: Settings,
        progress: Mapping[str, HostProgress],
        *,
        force: bool = False,
    ) -> None:
        self._image = image.absolute()
        self._out = out.absolute()
        self._settings = settings
        self._progress = progress
        self._force = force
        self._stop = threading.Event()

    def run(self) -> dict[str, Path]:
        """Make the formats that ``progress`` names, in parallel; files get their names at the end.

        Returns:
            the files that were made, by format.

        Raises:
            BoxError: the image is missing, invalid or being written; the folder cannot be written,
                or has another box of this version and ``force`` is not set; or a step failed. The
                folder is then as it was.
        """
        epoch = source_date_epoch()
        if self._out.exists() and not self._out.is_dir():
            raise PreflightError(f"{self._out} is a file: name a folder")
        image = convert.look(self._image)
        whole_files.require_unwritten(self._image)
        try:
            with _workshop(self._out) as work:
                listed = catalog.read(self._catalog, self._settings.package.name)
                summed = catalog.read_sums(self._out / _SUMS)
                sums = self._make(image, work, _TIME if epoch is None else epoch)
                whole_files.published(
                    work, self._out, self._write_lists(work, sums, listed, summed)
                )
        except OSError as error:
            raise BoxError(f"{self._out}: {error.strerror or error}") from error
        return {name: self._out / self._named(name) for name in self._progress}

    @property
    def _catalog(self) -> Path:
        return self._out / f"{stem(self._settings)}.json"

    def _named(self, name: str) -> str:
        version = self._settings.package.version
        return f"{stem(self._settings)}-{version}.{FORMATS[name].ending}"

    def _make(self, image: convert.Image, work: Path, time: int) -> dict[str, str]:
        """Make the formats in ``work``; returns the SHA-256 of each by format."""
        wanted = {name: FORMATS[name] for name in self._progress}
        writers = {each.disk: each for each in wanted.values()}
        with ThreadPoolExecutor(len(writers) + len(wanted)) as pool:
            disks = {
                disk: pool.submit(self._disk, image, work / disk, each)
                for disk, each in writers.items()
            }
            made = {
                name: pool.submit(self._pack, name, disks[each.disk], time)
                for name, each in wanted.items()
            }
            try:
                _require([*disks.values(), *made.values()])
            except BaseException:
                self._stop.set()
                raise
        for name, each in wanted.items():
            if each.members is None:  # the disk is shipped as it is; others were packed from it
                (work / each.disk).rename(work / self._named(name))
        return {name: future.result() for name, future in made.items()}

    def _disk(self, image: convert.Image, out: Path, made_by: Format) -> Disk:
        """Convert the disk that some formats share."""
        names = [name for name in self._progress if FORMATS[name].disk == out.name]
        for name in names:
            self._progress[name].step("converting the disk")
        report = self._reporter(*names)
        made_by.write(image, out, report)
        return Disk(out, tarball.file_sum(out, report), image.size)

    def _pack(self, name: str, converted: Future[Disk], time: int) -> str:
        """Pack the archive of a format that is one; returns the SHA-256 of its file."""
        disk = converted.result()
        checksum = disk.checksum
        members = FORMATS[name].members
        if members is not None:
            self._progress[name].step("packing")
            out = disk.path.with_name(self._named(name))
            content = members(disk, self._settings)
            checksum = tarball.write(out, content, time, self._reporter(name))
        self._progress[name].done("made")
        return checksum

    def _reporter(self, *names: str) -> tarball.Report:
        def report(percent: float) -> None:
            if self._stop.is_set():
                raise _StoppedError("stopped")
            for name in names:
                self._progress[name].amount(percent)

        return report

    def _write_lists(
        self, work: Path, sums: Mapping[str, str], listed: Mapping[str, Any], summed: dict[str, str]
    ) -> list[str]:
        """Write sums, catalog and the user's Vagrantfile; returns all names, in order of use."""
        box, setup = self._settings.package, self._settings.setup
        base = box.url or f"file://{quote(str(self._out))}/"
        named = {self._named(name): checksum for name, checksum in sums.items()}
        after = catalog.merged_sums(summed, named, box.version, force=self._force)
        (work / _SUMS).write_text(catalog.as_sums(after))
        entries = [
            catalog.Entry(FORMATS[name].provider, base + quote(self._named(name)), checksum)
            for name, checksum in sums.items()
            if FORMATS[name].provider
        ]
        if not entries:
            return [*named, _SUMS]
        versions = catalog.merged(listed, box.version, entries, force=self._force)
        (work / self._catalog.name).write_text(catalog.as_json(versions))
        url = base + quote(self._catalog.name)
        user = vagrantfile.for_user(_FOR_USER, box.name, url, setup.hostname, setup.branch)
        (work / _FOR_USER.name).write_text(user)
        return [*named, _SUMS, _FOR_USER.name, self._catalog.name]


def _require(futures: Sequence[Future[Any]]) -> None:
    """Wait until all have ended or one has failed; raises what that one raised."""
    finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in finished:
        future.result()


@contextlib.contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A work folder in ``folder``; a ``folder`` that was made for it goes if the block fails."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock, work = os.open(folder, os.O_RDONLY | os.O_DIRECTORY), folder / ".partial"
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BoxError(f"a box is being packaged into {folder} already") from error
        shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    finally:
        os.close(lock)
