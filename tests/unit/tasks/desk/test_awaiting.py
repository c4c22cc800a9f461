"""Something is waited for until it is there, or the time is over."""

from __future__ import annotations

import pytest

from deploys.errors import UnreachableError
from tasks.desk.awaiting import awaited


def test_what_was_waited_for_is_returned() -> None:
    answers = ["", "", "a key"]
    assert awaited(lambda: answers.pop(0), 60, 0, lambda: "no key") == "a key"
    assert answers == []


def test_the_error_says_what_is_so_when_the_time_is_over() -> None:
    asked: list[None] = []
    with pytest.raises(UnreachableError, match=r"^asked 1 times$"):
        awaited(lambda: asked.append(None), 0, 0, lambda: f"asked {len(asked)} times")
