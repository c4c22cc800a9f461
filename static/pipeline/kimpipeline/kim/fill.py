"""Fill in a template by Jinja2 as KIM's developer platform does. A sandbox runs this as a program.

Its standard input is JSON: the ``template``, the ``names`` that it may use, the ``paths`` of items
by their KIM ids, and the texts of the results that were ``given`` to the job, by their Test, with
the ``drivers`` of these Tests. It prints the text; or it fails, and the last line on its standard
error says why.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

from kimpipeline.kim import units
from kimpipeline.kim.query import documents, get_test_result, parse_kim_code, query

BRACKETS = {
    "block_start_string": "@[",
    "block_end_string": "]@",
    "variable_start_string": "@<",
    "variable_end_string": ">@",
    "comment_start_string": "@#",
    "comment_end_string": "#@",
    "keep_trailing_newline": True,
}
"""The platform's brackets."""
FUNCTIONS = ("path", "parse_kim_code", "format_kim_code", "convert")
RESULTS = ("query", "get_test_result")
"""The functions that look into the results that were given to the job."""
LACKING = ("asedata",)  # the platform has it, and no Test is known that asks for it


def format_kim_code(name: str | None, leader: str, num: str, version: str | None) -> str:
    """The KIM id of these parts."""
    return f"{name}__" * bool(name) + f"{leader}_{num}" + f"_{version}" * bool(version)


def fill(
    template: str,
    names: dict[str, str],
    paths: dict[str, str],
    given: dict[str, str],
    drivers: dict[str, str],
) -> str:
    """Fill in a template."""
    import kim_edn  # the runner itself reads this file for its names alone
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def path(kimid: str) -> str:
        if kimid not in paths:
            raise ValueError(f"{kimid!r} is not in kimspec.edn's needs")
        return paths[kimid]

    @cache
    def results() -> list[Any]:
        found = []
        for test, text in given.items():
            content = kim_edn.loads(text)
            instances = content if isinstance(content, list) else [content]
            found += documents(instances, test, drivers.get(test, ""), names["MODELNAME"])
        return found

    def convert(
        from_value: float, from_unit: str, wanted_unit: str = "", suppress_unit: object = False
    ) -> tuple[float, str] | float:
        found = units.convert(float(from_value), from_unit, wanted_unit or "")
        return found[0] if suppress_unit else found

    def strip_version(kimid: str) -> str:
        name, leader, num, _ = parse_kim_code(kimid)
        return format_kim_code(name, str(leader), str(num), None)

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, **BRACKETS)
    environment.filters |= {
        "edn": kim_edn.dumps,
        "json": lambda value: json.dumps(value, indent=4),
        "stripversion": strip_version,
    }
    known = (path, parse_kim_code, format_kim_code, convert)
    environment.globals |= dict(zip(FUNCTIONS, known, strict=True))
    environment.globals |= {
        "query": lambda asked: query(results(), asked),
        "get_test_result": lambda *words, **more: get_test_result(results(), *words, **more),
    }
    return environment.from_string(template).render(names)


def main() -> int:
    """Do what the top of this file says."""
    request = json.load(sys.stdin)
    try:
        text = fill(**request)
    except Exception as error:  # whatever a template does
        print(f"{error}"[:500].replace("\n", " "), file=sys.stderr)
        return 3
    sys.stdout.write(text)
    return 0
