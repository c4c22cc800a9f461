"""SI values by GNU units, as KIM's developer platform has them. A sandbox runs this as a program.

Its standard input is a JSON list of units. It prints a JSON map: what each unit is in SI, as slope,
offset and SI unit; null for what GNU units does not know.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

Scale = tuple[float, float, str]
"""An SI value is slope times value plus offset, in the SI unit."""
UNIT = re.compile(r"[A-Za-z0-9 _.*/^()+%-]{1,100}", re.ASCII)
"""What can be a unit at all; GNU units knows no options and no commands of this form."""
_FUNCTIONS = ("tempC", "tempF", "tempcelsius", "tempfahrenheit")  # no multiples of a unit
_PRINTED = re.compile(r"([-+.\deE]+)(?: (.+))?")


def convert(value: float, unit: str, wanted: str = "") -> tuple[float, str]:
    """A value in another unit, by default in SI, and that unit; ``1`` for a pure number.

    Raises:
        ValueError: GNU units does not know them, or the one is no unit of the other.
    """
    for each in (unit, *filter(None, [wanted])):
        if not UNIT.fullmatch(each):
            raise ValueError(f"{each[:100]!r} is no unit")
    asked = f"{unit}({value!r})" if unit in _FUNCTIONS else f"{value!r} {unit}"
    argv = ["units", "-o", "%1.15e", "-qt1", "--", asked, *filter(None, [wanted])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603
    found = _PRINTED.fullmatch(done.stdout.strip())
    if done.returncode or found is None:
        raise ValueError(f"GNU units does not know {unit!r}{f' as {wanted!r}' if wanted else ''}")
    return float(found[1]), wanted or found[2] or "1"


def scale(unit: str) -> Scale | None:
    """What a unit is in SI; None if GNU units does not know it."""
    try:
        one, si = convert(1.0, unit)
        offset = convert(0.0, unit)[0] if unit in _FUNCTIONS else 0.0
    except ValueError:
        return None
    return one - offset, offset, si


def main() -> int:
    """Do what the top of this file says."""
    json.dump({unit: scale(unit) for unit in json.load(sys.stdin)}, sys.stdout)
    return 0
