"""Add SI values to results, as KIM's developer platform does.

What a Test calls a unit goes to GNU units in a sandbox. Most results have the same few units, so
what these are is remembered.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kimpipeline.errors import RunError
from kimpipeline.files import remove
from kimpipeline.kim.kimid import quoted
from kimpipeline.kim.units import UNIT, Scale
from kimpipeline.run.programs import run_program
from kimpipeline.run.sandbox.confined import Sandbox, find_program
from kimpipeline.settings import MIB, Limits

_LIMITS = {"seconds": 20.0, "memory": 256 * MIB, "disk": MIB}
_MOST = 100  # units of one result
_remembered: dict[str, Scale] = {"1": (1.0, 0.0, "1")}


def add(content: Any, scratch: Path, sandbox: Sandbox, limits: Limits) -> Any:
    """Results with ``si-unit`` and ``si-value`` beside each ``source-unit``.

    Args:
        content: valid property instances, one or a list.
        scratch: this run's own folder.
        sandbox: runs GNU units.
        limits: those of a job.

    Raises:
        RunError: there is something that is no unit, or has no number.
        SandboxError: this machine could not run GNU units.
    """
    named = set(_named(content))
    for unit in named:
        if not isinstance(unit, str) or not UNIT.fullmatch(unit):
            raise RunError(f"results.edn: {quoted(str(unit))} is no unit")
    if len(named) > _MOST:
        raise RunError(f"results.edn has more than {_MOST} units")
    if unknown := sorted(named - _remembered.keys()):
        found = _ask(unknown, scratch, sandbox, limits)
        for unit in unknown:
            if found[unit] is None:
                raise RunError(f"results.edn: GNU units does not know {quoted(unit)}")
        if len(_remembered) > 100 * _MOST:
            _remembered.clear()
        _remembered.update(found)
    return _with_si(content, {**_remembered}) if named else content


def _named(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        if "source-unit" in content:
            yield content["source-unit"]
        else:
            content = [*content.values()]
    if isinstance(content, list):
        for each in content:
            if isinstance(each, (dict, list)):
                yield from _named(each)


def _with_si(content: Any, scales: Mapping[str, Scale]) -> Any:
    if isinstance(content, dict):
        if "source-unit" not in content:
            return {name: _with_si(each, scales) for name, each in content.items()}
        scale = scales[content["source-unit"]]
        value = _scaled(content.get("source-value"), scale)
        return {**content, "si-unit": scale[2], "si-value": value}
    if isinstance(content, list):
        return [_with_si(each, scales) for each in content]
    return content


def _scaled(value: Any, scale: Scale) -> Any:
    if isinstance(value, list):
        return [_scaled(each, scale) for each in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RunError(f"results.edn: {quoted(str(value))} has a unit, but is no number")
    slope, offset, _ = scale
    return slope * value + offset


def _ask(wanted: list[str], scratch: Path, sandbox: Sandbox, limits: Limits) -> dict[str, Scale]:
    """What GNU units says of units; of one that it does not know, None."""
    find_program("units", "units")
    least = {name: min(getattr(limits, name), most) for name, most in _LIMITS.items()}
    own = scratch / "units"
    own.mkdir()
    try:
        room, printed = sandbox.room(own), own / "printed"
        room.mkdir()
        printed.mkdir()
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as told:
            asked.write(json.dumps(wanted).encode())
            asked.seek(0)
            files, said = (asked, told), printed / "said"
            small = limits.model_copy(update=least)
            fault = run_program("units", (), room, files, said, sandbox, small)
            told.seek(0)
            content = told.read()
        if fault:
            raise RunError(f"results.edn: GNU units failed: {fault}")
        return {
            unit: each and (each[0], each[1], each[2]) for unit, each in json.loads(content).items()
        }
    finally:
        remove(own)
