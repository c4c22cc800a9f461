"""A running PostgreSQL for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kimpipeline.files import scratch
from tests.pipeline.queue.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with scratch() as folder:
        made = Server(folder / "db", "-cfsync=off")
        made.start()
        yield made
        made.stop()
