"""A guest's folder: the note by which another process finds it again, and who may start it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from deploys.errors import BoxError

Record = TypeVar("Record", bound=BaseModel)


def read_note(note: Path, kind: type[Record]) -> Record | None:
    """What a guest's note says; None where there is none.

    Raises:
        BoxError: it cannot be read.
    """
    try:
        return kind.model_validate_json(note.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        # its disks may be good: nothing may be made in their place
        raise BoxError(f"{note} does not say what guest this is; move {note.parent}") from error


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
