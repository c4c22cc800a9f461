"""A folder that a job's user can reach, and the sandbox that this machine has for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kimpipeline.files import scratch
from kimpipeline.run.sandbox import opened
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.settings import Folders, Settings
from tests.pipeline import world
from tests.pipeline.station import Station


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder which, unlike pytest's own, other users may enter."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def station(place: Path) -> Iterator[Station]:
    """A queue and folders, with one pair on the gateway whose Model is installed."""
    with Station(place) as station:
        world.repository(station.items)
        (station.models / world.MODEL).mkdir()
        yield station


@pytest.fixture
def sandbox(place: Path) -> Iterator[Sandbox]:
    with opened(Settings(sandbox="bubblewrap", folders=Folders(work=place / "work"))) as made:
        yield made
