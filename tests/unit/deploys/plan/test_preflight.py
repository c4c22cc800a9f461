"""What a host must have before its volumes are looked at."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.errors import PreflightError
from deploys.facts.state import HostState
from deploys.plan import preflight
from deploys.settings import Settings


class _Session:
    """Answers for the host; nothing is asked but its state."""

    def __init__(self, state: HostState) -> None:
        self._state = state

    def fact(self, _fact: object, **_arguments: object) -> Any:
        return self._state


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        (HostState(), "the host runs an unknown system; a box can be Debian 12, "),
        (HostState("debian", "11"), "the host runs debian 11; a box can be Debian 12, "),
        (HostState("debian", "13"), "the host has neither initramfs-tools nor dracut "),
    ],
)
def test_a_host_that_is_not_fit_is_refused(state: HostState, refusal: str) -> None:
    session: Any = _Session(state)
    with pytest.raises(PreflightError, match=f"^{refusal}"):
        preflight.check(session, Settings())
