"""KIM items: Tests, Models and their drivers, each a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kimpipeline.errors import ItemError
from kimpipeline.kim import edn
from kimpipeline.kim.kimid import TESTS, KimId, check_kimid, kind, quoted

Species = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,15}$")]


class Kimspec(BaseModel):
    """The keys of an item's ``kimspec.edn`` that the pipeline reads; KIM has more."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=lambda name: name.replace("_", "-")
    )

    extended_id: KimId
    title: str = ""
    executables: tuple[str, ...] = ()
    species: tuple[Species, ...] = ()
    properties: tuple[str, ...] = ()
    test_driver: KimId | None = None
    model_driver: KimId | None = None
    dependencies: tuple[KimId, ...] = ()
    matching_models: tuple[str, ...] = ("standard-models",)
    run_compatibility: str = "portable-models"


@dataclass(frozen=True)
class Item:
    """An item's folder and the content of its ``kimspec.edn``."""

    path: Path
    spec: Kimspec

    @property
    def kimid(self) -> str:
        return self.spec.extended_id

    @property
    def kind(self) -> str:
        return kind(self.kimid)

    @property
    def needs(self) -> tuple[str, ...]:
        """The KIM ids of the items that it needs, sorted."""
        named = (self.spec.test_driver, self.spec.model_driver, *self.spec.dependencies)
        return tuple(sorted({each for each in named if each}))

    @property
    def runner(self) -> Path:
        """The program of a Test or Test Driver."""
        return self.path / "runner"


def load(path: Path) -> Item:
    """Read an item from its folder.

    Raises:
        ItemError: ``kimspec.edn`` is missing, not valid, or that of another item.
    """
    try:
        spec = Kimspec.model_validate(edn.read(path / "kimspec.edn"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        reason = first["msg"].removeprefix("Value error, ")
        raise ItemError(f"{path.name}: kimspec.edn: {where}: {reason}") from error
    except ItemError as error:
        raise ItemError(f"{path.name}: {error}") from error
    if spec.extended_id != path.name:
        raise ItemError(f"{path.name}: kimspec.edn is of {spec.extended_id}")
    return Item(path, spec)


class ItemFolder:
    """A folder of items; the name of each item's folder is its KIM id."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, tuple[tuple[int, int], Item]] = {}

    def get(self, kimid: str) -> Item:
        """An item by its KIM id.

        Raises:
            ItemError: the name is no KIM id, or the item does not exist or is not valid.
        """
        path = self.root / check_kimid(kimid)
        if path.is_symlink() or not path.is_dir():
            raise ItemError(f"{quoted(kimid)}: there is no such item in {self.root}")
        try:
            state = (path / "kimspec.edn").stat()
        except OSError as error:
            raise ItemError(f"{kimid}: kimspec.edn: {error.strerror}") from error
        version = (state.st_mtime_ns, state.st_ino)
        cached = self._read.get(path)
        if cached is None or cached[0] != version:  # the director reads thousands, many times
            cached = self._read[path] = (version, load(path))
        return cached[1]

    def has(self, kimid: str) -> bool:
        return (self.root / check_kimid(kimid)).is_dir()

    def names(self, *kinds: str) -> list[str]:
        """The KIM ids of the items, sorted; only those of ``kinds``, if any are given."""
        found = []
        for entry in os.scandir(self.root) if self.root.is_dir() else ():
            try:
                if not kinds or kind(entry.name) in kinds:
                    found.append(check_kimid(entry.name))
            except ItemError:
                continue  # not an item, as a folder that is still being fetched
        return sorted(found)

    def items(self, *kinds: str) -> Iterator[Item]:
        """The items of these kinds, without those that are not valid."""
        for name in self.names(*kinds):
            try:
                yield self.get(name)
            except ItemError:
                continue

    def closure(self, *items: Item) -> tuple[Item, ...]:
        """All items that these need, directly or through others, sorted by KIM id; without these.

        What a needed Test needs is left out: that belongs to its own job.

        Raises:
            ItemError: an item is missing or not valid.
        """
        given = {item.kimid for item in items}
        found: dict[str, Item] = {}
        left = [name for item in items for name in item.needs]
        while left:
            name = left.pop()
            if name in found or name in given:
                continue
            found[name] = self.get(name)
            if found[name].kind not in TESTS:
                left += found[name].needs
        return tuple(found[name] for name in sorted(found))
