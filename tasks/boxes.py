"""The box's image in the state folder: built there, and built anew when it is out of date."""

from __future__ import annotations

from pathlib import Path

from deploys.settings import Settings
from tasks import bundle
from tasks.building import Build, Built
from tasks.places import BOX
from tasks.progress import HostProgress

# Says what the image was made of.
_NOTE = BOX.with_suffix(".made-of")


def build_box(settings: Settings, progress: HostProgress, manifest: Path | None = None) -> Built:
    """Build the image in the state folder, whatever is there.

    Args:
        settings: of the box.
        progress: is told the steps.
        manifest: of the box whose versions are to be taken; None: the newest.

    Raises:
        BoxError: see ``Build.run``; the image that was there stays.
    """
    BOX.parent.mkdir(parents=True, exist_ok=True)
    built = Build(settings, BOX, progress, manifest).run()
    _NOTE.write_text(_made_of(settings))
    return built


def box_image(settings: Settings, progress: HostProgress) -> Path:
    """The image of these settings and of this checkout; its packages may be of an earlier day.

    Raises:
        BoxError: it had to be built, and that failed.
    """
    kept = _NOTE.exists() and BOX.exists() and _NOTE.read_text() == _made_of(settings)
    return BOX if kept else build_box(settings, progress).path


def _made_of(settings: Settings) -> str:
    version = bundle.project_version()
    # of this very file: another build may have ended between its image and its note
    return f"{BOX.stat().st_mtime_ns}\n{version.commit} {version.digest}\n{settings.of_image()}\n"
