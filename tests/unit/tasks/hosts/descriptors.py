"""An open file with something to read, as a shell's ``3<file`` hands it over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def descriptor_of(content: bytes) -> Iterator[int]:
    """The reading end of a pipe that has this in it, and then its end."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)
