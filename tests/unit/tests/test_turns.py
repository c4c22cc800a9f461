"""How many files of tests have guests at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import Timeout
from tenacity import stop_after_attempt

from tests.boot.conftest import _turn


def test_a_fourth_file_with_guests_waits(tmp_path: Path) -> None:
    """However many workers there are; the one that has waited takes what another gives back."""
    taken = [_turn(tmp_path) for _ in range(3)]
    one_try = _turn.retry_with(stop=stop_after_attempt(1), reraise=True)
    with pytest.raises(Timeout):
        one_try(tmp_path)
    taken[1].release()
    taken[1] = one_try(tmp_path)
    assert all(lock.is_locked for lock in taken)
    for lock in taken:
        lock.release()
