"""What a Test asks for that is no item: kim-tools, and the program AFLOW, which no archive has."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from kimpipeline.errors import ItemError
from kimpipeline.kim import edn
from kimpipeline.kim.items import Item

_IMPORT = re.compile(r"^\s*(?:from|import)\s+(kim_tools|kimvv)\b", re.MULTILINE)
# The classes and functions of kim-tools that call AFLOW.
_AFLOW = re.compile(
    r"\b(AFLOW|aflow_util|SingleCrystalTestDriver|detect_unique_crystal_structures)\b"
)
_MOST, _LARGEST = 100, 2**20
# Where a job's Python looks, and a job's shell.
_PYTHON = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3*/dist-packages")
_PATH = "/usr/local/bin:/usr/bin:/bin"


def missing(items: Iterable[Item], root: Path = Path("/")) -> str:
    """What the programs of these items ask for and a job does not find, in a line; or nothing.

    It is what their Python says, which need not be all, and need not be reached.
    """
    found: dict[str, str] = {}
    for item in items:
        text = _python(item)
        for name in sorted(set(_IMPORT.findall(text))):
            if not any(any(root.glob(f"{each[1:]}/{name}")) for each in _PYTHON):
                part = ", see stack.kim-tools" if name == "kim_tools" else ""
                found[name] = f"{item.kimid} imports {name}, which is not installed here{part}"
        if _IMPORT.search(text) and _AFLOW.search(text):
            path = ":".join(f"{root}{each}" for each in _PATH.split(":"))
            if not shutil.which("aflow", path=path):
                found["aflow"] = f"{item.kimid} asks for AFLOW, which is not installed here"
    return "; ".join(found.values())


def _python(item: Item) -> str:
    """The text of an item's programs in Python, in its own folder."""
    texts = []
    for path in sorted(item.path.iterdir())[:_MOST]:
        if path.suffix == ".py" or path.name == item.runner.name:
            try:
                texts.append(edn.read_text(path, _LARGEST))
            except ItemError:
                continue  # a compiled program, or no file
    return "\n".join(texts)
