"""A guest's folder: the note by which other processes find the guest, and the lock to start it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from deploys.errors import BoxError
from tasks.desk import whole_files

# Seconds until a guest whose power button was pressed is off. One unit may take 90 to stop, and an
# emulated box in VirtualBox took more than 120 altogether.
OFF_DEADLINE = 600.0


class Note(BaseModel):
    """A guest's note: what another process needs to find it. ``FILE`` is the note's file name."""

    model_config = ConfigDict(frozen=True)
    FILE: ClassVar[str]

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Read the note in a folder; None if there is none.

        Raises:
            BoxError: it cannot be read.
        """
        note = directory / cls.FILE
        try:
            return cls.model_validate_json(note.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            # the guest's disks may be intact, so no new guest may replace it
            raise BoxError(f"{note} cannot be read: move the folder {directory} away") from error

    def write(self, directory: Path) -> None:
        """Write the note to a folder; it replaces an older one."""
        with whole_files.replaced(directory / self.FILE) as note:
            note.write_text(self.model_dump_json(indent=1))


@contextlib.contextmanager
def starting(directory: Path) -> Iterator[None]:
    """Hold the lock of a guest's folder, while this process makes or starts the guest.

    Raises:
        BoxError: another process holds it.
    """
    try:
        with FileLock(directory / "guest.lock", timeout=0):
            yield
    except Timeout as error:
        raise BoxError(f"the guest in {directory} is being started already") from error
