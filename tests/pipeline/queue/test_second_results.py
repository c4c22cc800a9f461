"""A gateway replaces no result: a later one stands beside it. ``transfer`` and rsync are real."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kimpipeline.queue.transfer import deliver
from kimpipeline.settings import Remote
from tests.pipeline.far_end import FarEnd

JOB = "TE_000000000111_000-and-MO_405512056662_005-0123456789ab"


@pytest.fixture
def far(place: Path) -> FarEnd:
    """A gateway without results."""
    (place / "gateway/results").mkdir(parents=True)
    return FarEnd(place / "gateway")


def send(far: FarEnd, text: str, folder: Path) -> None:
    """Deliver as a worker does: a file of this text, and one in a folder of its own."""
    (folder / "output").mkdir(parents=True, exist_ok=True)
    (folder / "results.edn").write_text(text)
    (folder / "output/kim.log").write_text("a log")
    remote = Remote(results="gateway:", ssh=(str(far.ssh),))
    deliver(folder, JOB, remote, lambda: None)


def found(far: FarEnd) -> dict[str, str]:
    """What each folder of results says."""
    assert all((each / "output/kim.log").is_file() for each in far.results.iterdir())
    return {each.name: (each / "results.edn").read_text() for each in far.results.iterdir()}


def test_each_other_result_has_a_folder_and_the_same_one_none(far: FarEnd, place: Path) -> None:
    for text in ("one", "one", "two", "one", "two", "six"):
        send(far, text, place / "run")
    assert found(far) == {JOB: "one", f"{JOB}.2": "two", f"{JOB}.3": "six"}


def test_workers_that_send_at_once_lose_nothing(far: FarEnd, place: Path) -> None:
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda n: send(far, str(n % 3), place / f"run{n}"), range(8)))
    assert sorted(found(far).values()) == ["0", "1", "2"]
    assert set(found(far)) == {JOB, f"{JOB}.2", f"{JOB}.3"}


def test_what_lies_there_is_neither_followed_nor_waited_for(far: FarEnd, place: Path) -> None:
    """A box may have sent a link or a FIFO of that name."""
    send(far, "one", place / "run")
    (far.results / JOB).rename(place / "elsewhere")
    (far.results / JOB).symlink_to(place / "elsewhere")
    os.mkfifo(far.results / f"{JOB}.2")
    send(far, "one", place / "run")
    assert (far.results / JOB).is_symlink()
    assert (far.results / f"{JOB}.3/results.edn").read_text() == "one"
