"""KIM items: Tests, Models and their drivers, each a folder.

What is read, and what may be missing, is as KIM's developer platform has it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kimpipeline.errors import ItemError
from kimpipeline.kim import edn
from kimpipeline.kim.kimid import (
    TESTS,
    KimId,
    KimIdPattern,
    check_kimid,
    check_pattern,
    code,
    is_kimid,
    is_named,
    item_key,
    kind,
    quoted,
)

_SPEC, _DEPENDENCIES = "kimspec.edn", "dependencies.edn"


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Species = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,15}$")]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A text, or a list of texts."""


class Kimspec(BaseModel):
    """The keys of an item's ``kimspec.edn`` that the pipeline reads; KIM has more.

    ``extended_id`` is the name of the item's folder, where the file does not say it.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=lambda name: name.replace("_", "-")
    )

    extended_id: KimId
    title: str = ""
    executables: tuple[str, ...] = ()
    species: Annotated[tuple[Species, ...], BeforeValidator(_listed)] = ()
    properties: Texts = ()
    test_driver: KimId | None = None
    model_driver: KimId | None = None
    dependencies: Annotated[tuple[KimIdPattern, ...], BeforeValidator(_listed)] = ()
    matching_models: Texts = ("standard-models",)
    run_compatibility: str = "portable-models"
    simulator_name: str = ""
    simulator_potential: str = ""
    kim_api_version: Annotated[str, Field(pattern=r"^\d{1,3}\.\d{1,3}\S{0,20}$")] = "2.0"


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
        """The names of the items that it needs, sorted; a name may lack its version.

        The driver of a Model is none of them: the installed Model has it.
        """
        return tuple(sorted({*self.spec.dependencies, *filter(None, [self.spec.test_driver])}))

    @property
    def runner(self) -> Path:
        """The program of a Test or Test Driver."""
        return self.path / "runner"


def load(path: Path) -> Item:
    """Read an item from its folder.

    Raises:
        ItemError: ``kimspec.edn`` is missing, not valid, or that of another item; or
            ``dependencies.edn`` is no list of names.
    """
    try:
        content = edn.read(path / _SPEC)
        if isinstance(content, dict):
            content = {"extended-id": path.name, **content, **_dependencies(path, content)}
        spec = Kimspec.model_validate(content)
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


def _dependencies(path: Path, content: dict[str, object]) -> dict[str, object]:
    """The names in ``dependencies.edn``, if there is one, beside those in ``kimspec.edn``."""
    if not os.path.lexists(path / _DEPENDENCIES):
        return {}
    names = edn.read(path / _DEPENDENCIES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ItemError(f"{_DEPENDENCIES} is no list of KIM ids")
    listed = content.get("dependencies", [])
    return {"dependencies": [*(listed if isinstance(listed, list) else [listed]), *names]}


class ItemFolder:
    """A folder of items; the name of each item's folder is its KIM id.

    With ``only`` it is as if no other items were there.
    """

    def __init__(self, root: Path, only: Collection[str] | None = None) -> None:
        self.root = root
        self._only = only
        self._read: dict[Path, tuple[tuple[tuple[int, int], ...], Item]] = {}

    def get(self, kimid: str) -> Item:
        """An item by its KIM id.

        Raises:
            ItemError: the name is no KIM id, or the item does not exist or is not valid.
        """
        path = self.root / check_kimid(kimid)
        if path.is_symlink() or not path.is_dir():
            raise ItemError(f"{quoted(kimid)}: there is no such item in {self.root}")
        try:
            version = (_state(path / _SPEC), *_states(path / _DEPENDENCIES))
        except OSError as error:
            raise ItemError(f"{kimid}: {_SPEC}: {error.strerror}") from error
        cached = self._read.get(path)
        if cached is None or cached[0] != version:  # the director reads thousands, many times
            cached = self._read[path] = (version, load(path))
        return cached[1]

    def has(self, kimid: str) -> bool:
        return (self.root / check_kimid(kimid)).is_dir()

    def find(self, pattern: str, *kinds: str) -> list[str]:
        """The KIM ids of the items that a pattern names, each in its newest version, sorted.

        Args:
            pattern: a KIM id, or a part of one, with ``*`` and ``?``; see ``is_named``.
            kinds: only those of these kinds, if any are given.

        Raises:
            ItemError: no item has such a name.
        """
        check_pattern(pattern)
        found = [name for name in self.names(*kinds) if is_named(name, pattern)]
        if not found:
            raise ItemError(f"{quoted(pattern)}: there is no such item in {self.root}")
        newest = {item_key(name): name for name in sorted(found, key=code)}
        return sorted(newest.values())

    def find_one(self, pattern: str, *kinds: str) -> str:
        """The KIM id of the one item that a pattern names, in its newest version.

        Raises:
            ItemError: no item has such a name, or several have.
        """
        found = self.find(pattern, *kinds)
        if len(found) > 1:
            raise ItemError(f"{quoted(pattern)} is the name of {len(found)} items: say which")
        return found[0]

    def names(self, *kinds: str) -> list[str]:
        """The KIM ids of the items, sorted; only those of ``kinds``, if any are given."""
        found = []
        for entry in os.scandir(self.root) if self.root.is_dir() else ():
            try:
                if self._only is not None and entry.name not in self._only:
                    continue
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

        A name without a version is the newest one. What a needed Test needs is left out: that
        belongs to its own job.

        Raises:
            ItemError: an item is missing or not valid.
        """
        given = {item.kimid for item in items}
        found: dict[str, Item] = {}
        left = [name for item in items for name in self._needed(item)]
        while left:
            name = left.pop()
            if name in found or name in given:
                continue
            found[name] = self.get(name)
            if found[name].kind not in TESTS:
                left += self._needed(found[name])
        return tuple(found[name] for name in sorted(found))

    def _needed(self, item: Item) -> list[str]:
        return [
            kimid
            for name in item.needs
            for kimid in ([name] if is_kimid(name) else self.find(name))
        ]


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_ino


def _states(path: Path) -> list[tuple[int, int]]:
    """The state of a file that an item may lack."""
    return [_state(path)] if path.exists() else []
