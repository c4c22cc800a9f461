"""A guest's folder: the note by which another process finds it again, and who may start it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from deploys.errors import BoxError
from tasks.desk import whole_files


class Note(BaseModel):
    """What another process needs to find a guest again; ``FILE`` is its name in the folder."""

    model_config = ConfigDict(frozen=True)
    FILE: ClassVar[str]

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The note of a folder; None where there is none.

        Raises:
            BoxError: it cannot be read.
        """
        note = directory / cls.FILE
        try:
            return cls.model_validate_json(note.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            # its disks may be good: nothing may be made in their place
            raise BoxError(f"{note} does not say what guest this is; move {directory}") from error

    def write(self, directory: Path) -> None:
        """Leave it in a folder, in place of the one before."""
        with whole_files.replaced(directory / self.FILE) as note:
            note.write_text(self.model_dump_json(indent=1))


@contextlib.contextmanager
def starting(directory: Path) -> Iterator[None]:
    """While this process makes or starts the guest of a folder, no other does.

    Raises:
        BoxError: another does.
    """
    try:
        with FileLock(directory / "guest.lock", timeout=0):
            yield
    except Timeout as error:
        raise BoxError(f"the guest in {directory} is being started already") from error
