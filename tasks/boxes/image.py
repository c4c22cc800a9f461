"""The box's image in the state folder: built there, and built again when it is out of date.

A finalized image cannot be built again: it is used as it is, and not replaced without asking.
"""

from __future__ import annotations

from pathlib import Path

from deploys.errors import PreflightError
from deploys.settings import Settings
from tasks.boxes.build import Build, Built
from tasks.desk import whole_files
from tasks.desk.places import BOX
from tasks.desk.progress import HostProgress
from tasks.stack import bundle

# What the image was made of.
_NOTE = BOX.with_suffix(".made-of")
# When finalized images were last written: the one that is there, and one about to take its place.
_FINALIZED = BOX.with_suffix(".finalized")


def build_box(
    settings: Settings, progress: HostProgress, manifest: Path | None = None, *, force: bool = False
) -> Built:
    """Build the image in the state folder, even if there is one.

    Args:
        settings: of the box.
        progress: shows the steps.
        manifest: of the box whose versions are used; None: the newest versions.
        force: replace a finalized image, too.

    Raises:
        BoxError: the image was finalized, or as ``Build.run``. The image that is there stays.
    """
    if is_finalized() and not force:
        raise PreflightError(
            f"{BOX} was finalized and cannot be built again: name another file with --out, or "
            "give --force"
        )
    BOX.parent.mkdir(parents=True, exist_ok=True)
    built = Build(settings, BOX, progress, manifest).run()
    _NOTE.write_text(_made_of(settings))
    return built


def box_image(settings: Settings, progress: HostProgress) -> Path:
    """The image of these settings and of this checkout; its packages may be older.

    A finalized image is used whatever the settings: its guest is provisioned next.

    Raises:
        BoxError: the image had to be built, and the build failed.
    """
    current = _NOTE.exists() and BOX.exists() and _NOTE.read_text() == _made_of(settings)
    return BOX if current or is_finalized() else build_box(settings, progress).path


def is_finalized() -> bool:
    """Whether the image was finalized."""
    return BOX.exists() and _time_written(BOX) in _finalized()


def is_replaceable(file: Path) -> bool:
    """Whether a new image may replace a file without asking, as it can be built again."""
    return not file.exists() or (file == BOX and not is_finalized())


def note_finalized(image: Path) -> None:
    """Record that ``image`` was finalized, before it takes its name: power may go in between."""
    before = [_time_written(BOX)] if is_finalized() else []
    with whole_files.replaced(_FINALIZED) as note:
        note.write_text("".join(f"{line}\n" for line in (*before, _time_written(image))))


def _finalized() -> list[str]:
    return _FINALIZED.read_text().split() if _FINALIZED.exists() else []


def _time_written(image: Path) -> str:
    return str(image.stat().st_mtime_ns)


def _made_of(settings: Settings) -> str:
    version = bundle.project_version()
    # with the file's time: a build may have ended after its image and before its note
    return f"{_time_written(BOX)}\n{version.commit} {version.digest}\n{settings.of_image()}\n"
