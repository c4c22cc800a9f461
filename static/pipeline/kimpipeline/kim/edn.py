"""KIM's EDN files: read with a size limit and never through a link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kim_edn

from kimpipeline.errors import ItemError
from kimpipeline.files import open_regular

# A kimspec.edn has kilobytes; a results.edn of a phonon dispersion some megabytes.
LARGEST = 16 * 2**20


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The text of a regular file of at most ``largest`` bytes.

    Raises:
        ItemError: it is no such file; links are not followed, pipes and devices not opened.
    """
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise ItemError(f"{path.name}: {error.strerror}") from error
    if len(content) > largest:
        raise ItemError(f"{path.name} has more than {largest} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ItemError(f"{path.name} is not UTF-8") from error


def read(path: Path) -> Any:
    """The content of an EDN file: dicts, lists, strings, numbers and booleans.

    Raises:
        ItemError: there is no such file, or it is not EDN as KIM writes it.
    """
    text = read_text(path)
    try:
        return kim_edn.loads(text)
    except (ValueError, RecursionError) as error:  # kim_edn's own error is a ValueError
        line = str(error).partition("\n")[0]
        raise ItemError(f"{path.name} is not EDN: {line}") from error


def write(path: Path, content: object) -> None:
    """Write dicts, lists, strings, numbers and booleans as an EDN file."""
    path.write_text(kim_edn.dumps(content, indent=1) + "\n")
