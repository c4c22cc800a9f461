"""The state of a host as a fact."""

from __future__ import annotations

import time
from dataclasses import replace

from pyinfra.api.facts import FactBase

from deploys.facts import host_state
from deploys.facts.host_state import HostState, Verdict

__all__ = ["HostState", "State", "Verdict"]


class State(FactBase[HostState]):
    """The :class:`HostState`, in one round trip."""

    default = HostState

    def command(self) -> str:
        return host_state.command()

    def process(self, output: list[str]) -> HostState:
        return replace(host_state.parsed(output), read_at=time.time())
