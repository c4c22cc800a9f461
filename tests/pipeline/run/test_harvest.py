"""What is taken over of a job's folder, when somebody changes it meanwhile; and as whom."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimpipeline.errors import RunError
from kimpipeline.run.harvest import collect
from kimpipeline.run.sandbox.confined import chown_tree
from tests.pipeline.world import MIB

USER = 66_998
_EXCHANGE = 2  # of renameat2


@pytest.fixture
def folder(place: Path) -> Path:
    """A job's folder, secrets of root's beside it, and a link to them."""
    if os.geteuid() != 0:
        pytest.skip("only root can read as another user")
    (place / "secret").mkdir(mode=0o700)
    made = place / "test"
    (made / "output/deep/keys").mkdir(parents=True)
    for number in range(100):
        (place / f"secret/key-{number}").write_text("secret")
        (place / f"secret/key-{number}").chmod(0o600)
        (made / f"output/deep/keys/key-{number}").write_text("own")
    (made / "output/deep/link").symlink_to(place / "secret")
    chown_tree(made, USER)
    return made


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """An accomplice that exchanges two names all the time."""
    exchange = ctypes.CDLL(None).renameat2
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            exchange(-100, os.fsencode(one), -100, os.fsencode(other), _EXCHANGE)

    accomplice = threading.Thread(target=swap)
    accomplice.start()
    try:
        yield
    finally:
        over.set()
        accomplice.join()


def test_a_link_that_is_swapped_in_leads_nowhere(folder: Path, place: Path) -> None:
    found = set()
    with swapping(folder / "output/deep/keys", folder / "output/deep/link"):
        for number in range(4):
            target = place / f"results-{number}"
            target.mkdir()
            with contextlib.suppress(RunError):
                collect(folder, target, USER, MIB)
            found |= {path.read_text() for path in target.rglob("key-*")}
    assert found == {"own"}


def test_it_is_read_as_the_jobs_user(folder: Path, place: Path) -> None:
    """What root alone can read is not taken over, however it came there."""
    os.link(place / "secret/key-0", folder / "output/key")
    (place / "results").mkdir()
    with pytest.raises(RunError, match="its own user cannot read all of it"):
        collect(folder, place / "results", USER, MIB)
    assert not (place / "results/key").exists()
