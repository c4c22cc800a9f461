"""What a worker and a director find in /persistent, where somebody was root before a reset."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kimpipeline.errors import ItemError
from kimpipeline.files import open_regular
from kimpipeline.kim.items import ItemFolder
from kimpipeline.queue.transfer import fetch, mirror
from kimpipeline.settings import Remote
from tests.pipeline import world


def _link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "elsewhere")


def _file(path: Path) -> None:
    path.write_text("x")


@pytest.fixture
def remote(place: Path) -> Remote:
    """Items in another folder of this machine."""
    world.repository(place / "gateway")
    (place / "elsewhere").mkdir()
    (place / "here").mkdir()
    return Remote(items=f"{place}/gateway/")


def nothing() -> None:
    """No beat."""


@pytest.mark.parametrize("make", [_link, _file, os.mkfifo])
def test_items_land_in_a_folder_of_the_workers_own(
    make: Callable[[Path], None], place: Path, remote: Remote
) -> None:
    make(place / "here/items")
    items = ItemFolder(place / "here/items")
    fetch(world.TEST, items, remote, nothing)
    assert items.get(world.TEST)
    make(place / "here/items" / world.MODEL)
    if make is not os.mkfifo:  # that one is no link and no file: it is refused, and not waited for
        fetch(world.MODEL, items, remote, nothing)
        assert items.get(world.MODEL)
    else:
        with pytest.raises(ItemError, match="there is no such item"):
            fetch(world.MODEL, items, remote, nothing)
    assert not [*(place / "elsewhere").iterdir()]


def test_a_director_replaces_what_is_no_folder(place: Path, remote: Remote) -> None:
    _link(place / "here/items")
    items = ItemFolder(place / "here/items")
    mirror(items, remote, nothing)
    assert len(items.names()) == 3
    assert not [*(place / "elsewhere").iterdir()]


def test_a_folder_in_the_place_of_a_file_is_not_left_open(place: Path) -> None:
    """A worker and a director run for months, and read what strangers made."""
    opened = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            open_regular(place)
    assert len([*Path("/proc/self/fd").iterdir()]) == opened
