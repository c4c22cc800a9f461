"""Fill in a template by Jinja2 as KIM's developer platform does. A sandbox runs this as a program.

Its argument is the folder of Jinja2. Its standard input is JSON: the ``template``, the ``names``
that it may use, and the ``paths`` of items by their KIM ids. It prints the text; or it fails, and
the last line on its standard error says why.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NoReturn

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
FUNCTIONS = ("path", "parse_kim_code", "format_kim_code")
# The platform asks KIM's own servers, and a program for units; there is neither here.
LACKING = ("asedata", "convert", "get_test_result", "query")
_KIMID = re.compile(r"(?:([A-Za-z_]\w*?)__)?([A-Z]{2})_(\d{12})(?:_(\d{3}))?", re.ASCII)


def parse_kim_code(kimid: str) -> tuple[str | None, ...]:
    """Prefix, kind, number and version of a KIM id; None for what it lacks."""
    found = _KIMID.fullmatch(kimid)
    if found is None:
        raise ValueError(f"{kimid!r} is no KIM id")
    return found.groups()


def format_kim_code(name: str | None, leader: str, num: str, version: str | None) -> str:
    """The KIM id of these parts."""
    return f"{name}__" * bool(name) + f"{leader}_{num}" + f"_{version}" * bool(version)


def fill(template: str, names: dict[str, str], paths: dict[str, str]) -> str:
    """Fill in a template."""
    import kim_edn  # from the folder that main() was told
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def path(kimid: str) -> str:
        if kimid not in paths:
            raise ValueError(f"{kimid!r} is not in kimspec.edn's needs")
        return paths[kimid]

    def refuse(name: str) -> Any:
        def call(*_: object, **__: object) -> NoReturn:
            raise ValueError(f"there is no {name} here: name the Test in dependencies.edn")

        return call

    def strip_version(kimid: str) -> str:
        name, leader, num, _ = parse_kim_code(kimid)
        return format_kim_code(name, str(leader), str(num), None)

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, **BRACKETS)
    environment.filters |= {
        "edn": kim_edn.dumps,
        "json": lambda value: json.dumps(value, indent=4),
        "stripversion": strip_version,
    }
    environment.globals |= {name: refuse(name) for name in LACKING}
    known = (path, parse_kim_code, format_kim_code)
    environment.globals |= dict(zip(FUNCTIONS, known, strict=True))
    return environment.from_string(template).render(names)


def main() -> int:
    """Do what the top of this file says."""
    request = json.load(sys.stdin)
    sys.path.insert(0, sys.argv[1])
    try:
        text = fill(request["template"], request["names"], request["paths"])
    except Exception as error:  # whatever a template does
        print(f"{error}"[:500].replace("\n", " "), file=sys.stderr)
        return 3
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
