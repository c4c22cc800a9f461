"""Make the Tests of a Test Driver from its template. A sandbox runs this as a program.

Its arguments are the Driver's folder and the Tests' version. It writes a
folder for each Test below ``output``, and reads what KIM's developer platform reads:
``test_generator.json`` has a line of JSON for each Test, with the variables of the templates; the
files of ``test_template`` are the templates. ``kimspec.edn`` is filled in first, and says the
Test's name; the others may use it as ``kimspec``. It fails with a line on its standard error.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

_ENDING = ".genie"
_FILENAME = re.compile(r"\{#.*?FILENAME\s*=\s*(\S+).*?#\}", re.DOTALL)


def generate(driver: Path, output: Path, version: str) -> None:
    """Write the Tests of a Driver."""
    import kim_edn
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["stripversion"] = lambda kimid: re.sub(r"_\d{3}$", "", kimid)
    environment.globals["stripversion"] = environment.filters["stripversion"]

    def render(text: str, names: dict[str, Any]) -> str:
        return environment.from_string(text).render(names)

    templates = driver / "test_template"
    texts = {
        path.relative_to(templates): path.read_text()
        for path in sorted(templates.rglob("*"))
        if path.is_file()
    }
    spec = next((path for path in texts if path.name in ("kimspec.edn.genie", "kimspec.edn")), None)
    if spec is None:
        raise ValueError("test_template has no kimspec.edn.genie")
    lines = (driver / "test_generator.json").read_text().splitlines()
    for number, line in enumerate(filter(str.strip, lines), 1):
        names = {"TEST_DRIVER_NAME": driver.name, "version": version, **json.loads(line)}
        if "FILES_TO_COPY" in names:
            raise ValueError(f"line {number}: FILES_TO_COPY: put these files in test_template")
        names["kimspec"] = kim_edn.loads(render(texts[spec], names))
        folder = output / names["kimspec"]["extended-id"]
        for path, text in texts.items():
            named = _FILENAME.search(text)
            name = render(named[1], names) if named else path.name.removesuffix(_ENDING)
            target = folder / path.parent / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x") as file:  # two of one name are a fault
                file.write(render(text, names))


def main() -> int:
    """Do what the top of this file says."""
    driver, version = sys.argv[1:]
    try:
        generate(Path(driver), Path("output"), version)
    except Exception as error:  # whatever a Driver's author wrote
        print(f"{type(error).__name__}: {error}"[:500].replace("\n", " "), file=sys.stderr)
        return 3
    return 0
