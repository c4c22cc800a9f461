"""What a bench measured, and whether that is what was promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What a row is held to: a ratio where there is a peer, else the value; ends included."""

    low: float | None = None
    high: float | None = None

    def met_by(self, value: float) -> bool:
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        low = "" if self.low is None else f">= {self.low:g}"
        high = "" if self.high is None else f"<= {self.high:g}"
        return " and ".join(part for part in (low, high) if part)


@dataclass(frozen=True)
class Row:
    """One thing measured; without a ``target`` it stands beside the others to be compared.

    ``ours`` and ``peer`` (what it is compared with) are both in ``unit``.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def met(self) -> bool | None:
        """None without a target; a peer of nothing is no comparison, so the target is missed."""
        if self.target is None:
            return None
        if self.peer is None:
            return self.target.met_by(self.ours)
        return self.ratio is not None and self.target.met_by(self.ratio)

    def as_dict(self) -> dict[str, object]:
        """The row with what follows from it, as plain values."""
        target = None if self.target is None else str(self.target)
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": self.ratio,
            "target": target,
            "met": self.met,
        }


Step = Callable[[str], None]
"""Is told what a bench is doing now."""

Bench = Callable[[Step], list[Row]]
