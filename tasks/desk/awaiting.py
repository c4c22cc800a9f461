"""Wait for something of a machine, with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from deploys.errors import UnreachableError

T = TypeVar("T")


def awaited(value: Callable[[], T], deadline: float, pause: float, fault: Callable[[], str]) -> T:
    """What ``value`` returns as soon as that is true.

    Args:
        value: is asked again and again.
        deadline: in seconds.
        pause: between two questions, in seconds.
        fault: the error's line, made when the time is over.

    Raises:
        UnreachableError: it did not become true in time.
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
