"""Wait for a condition, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys.errors import UnreachableError

T = TypeVar("T")


def awaited(value: Callable[[], T], deadline: float, pause: float, fault: Callable[[], str]) -> T:
    """Call ``value`` until it returns something true, and return that.

    Args:
        value: the condition.
        deadline: in seconds.
        pause: between two calls, in seconds.
        fault: returns the error's line; called when the deadline has passed.

    Raises:
        UnreachableError: the deadline has passed.
    """
    tries = Retrying(
        retry=retry_if_result(lambda found: not found),
        stop=stop_after_delay(deadline),
        wait=wait_fixed(pause),
    )
    try:
        return tries(value)
    except RetryError as error:
        raise UnreachableError(fault()) from error
