"""Gathers, on this machine, the items that a box carries: see deploys/stack/items.py."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from deploys.errors import BoxError
from deploys.stack.items import Items
from tasks.stack import bundle
from tasks.stack.sources import Sources

# As kimpipeline.kim.kimid has it.
_KIMID = re.compile(r"[A-Za-z][A-Za-z0-9_]*__(MO|MD|SM|TE|TD|VC)_\d{12}_\d{3}", re.ASCII)
# Raised when what is kept of a repository changes.
_RECIPE = "1"


def items(sources: Sources, folder: Path, progress: Callable[[str], None]) -> Items:
    """The items of ``sources``, wherever they lie in them, fetched once and kept in ``folder``.

    An item is a folder with a ``kimspec.edn``; its name is its KIM id.

    Raises:
        BoxError: they cannot be had; or have no item, one of another name, one twice, or a link.
    """
    digest = hashlib.sha256(f"{_RECIPE}\0{sources.identity}".encode()).hexdigest()
    path = folder / f"items-{digest[:16]}.tar.gz"
    if not path.exists():
        progress(f"fetching {sources.name}")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".items-") as name:
            fetched, gathered = Path(name, "fetched"), Path(name, "gathered")
            fetched.mkdir()
            try:
                with tarfile.open(sources.fetch(fetched)) as tar:
                    _gather(tar, gathered)
            except tarfile.TarError as error:
                raise BoxError(f"{sources.name}: no .tar.gz: {error}") from error
            except BoxError as error:
                raise BoxError(f"{sources.name}: {error}") from error
            bundle.pack(path, gathered)
    with tarfile.open(path) as tar:
        names = {PurePosixPath(member.name).parts[0] for member in tar}
    return Items(path, digest, tuple(sorted(names)))


def _gather(tar: tarfile.TarFile, gathered: Path) -> None:
    places = _places([PurePosixPath(member.name) for member in tar])
    for member in tar:
        path = PurePosixPath(member.name)
        found = next((each for each in path.parents if each in places), None)
        if found is None or member.isdir():
            continue
        if not member.isreg() or ".." in path.parts:
            raise BoxError(f"{path} is a link, or no plain file: an item has none")
        target = gathered / found.name / path.relative_to(found)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None
        with content, target.open("xb") as file:
            shutil.copyfileobj(content, file)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _places(paths: list[PurePosixPath]) -> set[PurePosixPath]:
    """The folders of items among all paths; those within another item are that one's own."""
    folders = {path.parent for path in paths if path.name == "kimspec.edn"}
    outer = {each for each in folders if folders.isdisjoint(each.parents)}
    if not outer:
        raise BoxError("there is no item in it: no folder with a kimspec.edn")
    names: set[str] = set()
    for place in sorted(outer):
        if not _KIMID.fullmatch(place.name):
            raise BoxError(f"{place} has a kimspec.edn, and its name is no KIM id")
        if place.name in names:
            raise BoxError(f"{place.name} is there twice")
        names.add(place.name)
    return outer
