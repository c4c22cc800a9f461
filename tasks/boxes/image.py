"""The box's image in the state folder: built there, and built anew when it is out of date.

One that was finalized cannot be built again: it is taken as it is, and nothing replaces it unasked.
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

# Says what the image was made of.
_NOTE = BOX.with_suffix(".made-of")
# When the images were last written that were finalized: the one that is there, and the one that is
# about to take its place.
_FINALIZED = BOX.with_suffix(".finalized")


def build_box(
    settings: Settings, progress: HostProgress, manifest: Path | None = None, *, force: bool = False
) -> Built:
    """Build the image in the state folder, whatever is there.

    Args:
        settings: of the box.
        progress: is told the steps.
        manifest: of the box whose versions are to be taken; None: the newest.
        force: replace one that was finalized, too.

    Raises:
        BoxError: there is one that was finalized, or see ``Build.run``; the image that was there
            stays.
    """
    if is_finalized() and not force:
        raise PreflightError(
            f"{BOX} was finalized and cannot be built again: name another file with --out, or "
            "say --force"
        )
    BOX.parent.mkdir(parents=True, exist_ok=True)
    built = Build(settings, BOX, progress, manifest).run()
    _NOTE.write_text(_made_of(settings))
    return built


def box_image(settings: Settings, progress: HostProgress) -> Path:
    """The image of these settings and of this checkout; its packages may be of an earlier day.

    One that was finalized is taken whatever the settings: a provision of its guest follows.

    Raises:
        BoxError: it had to be built, and that failed.
    """
    current = _NOTE.exists() and BOX.exists() and _NOTE.read_text() == _made_of(settings)
    return BOX if current or is_finalized() else build_box(settings, progress).path


def is_finalized() -> bool:
    """Whether the image is one that was finalized."""
    return BOX.exists() and _written(BOX) in _finalized()


def is_replaceable(file: Path) -> bool:
    """Whether nothing is lost when a new image takes a file's place: it can be built again."""
    return not file.exists() or (file == BOX and not is_finalized())


def note_finalized(image: Path) -> None:
    """A file that is about to become the image was finalized: a power cut may come between."""
    before = [_written(BOX)] if is_finalized() else []
    with whole_files.replaced(_FINALIZED) as note:
        note.write_text("".join(f"{line}\n" for line in (*before, _written(image))))


def _finalized() -> list[str]:
    return _FINALIZED.read_text().split() if _FINALIZED.exists() else []


def _written(image: Path) -> str:
    return str(image.stat().st_mtime_ns)


def _made_of(settings: Settings) -> str:
    version = bundle.project_version()
    # of this very file: another build may have ended between its image and its note
    return f"{_written(BOX)}\n{version.commit} {version.digest}\n{settings.of_image()}\n"
