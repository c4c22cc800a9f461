"""Gathers the items that a box carries (deploys/stack/items.py) on this machine."""

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

# As in kimpipeline.kim.kimid.
_KIMID = re.compile(r"[A-Za-z][A-Za-z0-9_]*__(MO|MD|SM|TE|TD|VC)_\d{12}_\d{3}", re.ASCII)
# Raise it when _gather or bundle.pack changes, so that no older archive is used.
_RECIPE = "1"


def items(sources: Sources, folder: Path, progress: Callable[[str], None]) -> Items:
    """The items in ``sources``, at any depth, fetched once and kept in ``folder``.

    An item is a folder with a ``kimspec.edn``; its name is its KIM id.

    Raises:
        BoxError: the sources cannot be fetched or hold no item; or an item has a name that is no
            KIM id, or that another has, or a link in it.
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
            raise BoxError(f"{path} is a link, or not a regular file: an item holds neither")
        target = gathered / found.name / path.relative_to(found)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None
        with content, target.open("xb") as file:
            shutil.copyfileobj(content, file)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _places(paths: list[PurePosixPath]) -> set[PurePosixPath]:
    """The folders of items among all paths; a folder within an item is part of that item."""
    folders = {path.parent for path in paths if path.name == "kimspec.edn"}
    outer = {each for each in folders if folders.isdisjoint(each.parents)}
    if not outer:
        raise BoxError("it holds no item: no folder has a kimspec.edn")
    names: set[str] = set()
    for place in sorted(outer):
        if not _KIMID.fullmatch(place.name):
            raise BoxError(f"{place} has a kimspec.edn, but its name is no KIM id")
        if place.name in names:
            raise BoxError(f"{place.name} is there twice")
        names.add(place.name)
    return outer
