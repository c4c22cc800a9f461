"""SI values in results, by GNU units; and property definitions that an item brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kim_edn
import pytest

from kimpipeline.errors import RunError, SandboxError
from kimpipeline.kim import edn, units
from kimpipeline.run import si
from kimpipeline.run.pair import Outcome, run_test
from kimpipeline.run.sandbox.confined import Sandbox
from kimpipeline.settings import Limits
from tests.pipeline import world

OWN = "tag:staff@noreply.openkim.org,2026-12-01:property/of-our-own"
DEFINITION = {
    "property-id": OWN,
    "property-title": "A property of our own",
    "property-description": "It has one number.",
    "number": {
        "type": "float",
        "has-unit": True,
        "extent": [],
        "required": True,
        "description": "It.",
    },
}


@pytest.fixture
def add(place: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Adds SI values; nothing is remembered from before."""
    monkeypatch.setattr(si, "_remembered", {"1": (1.0, 0.0, "1")})
    return lambda content: si.add(content, place, sandbox, world.LIMITS)


@pytest.fixture
def run(place: Path, sandbox: Sandbox) -> Callable[..., Outcome]:
    """Runs a Test that gives these results, and whose Driver brings these files."""

    def run(given: object, own: dict[str, str], limits: Limits = world.LIMITS) -> Outcome:
        lines = f'echo "$KIM_PROPERTY_PATH"; {world.GOOD}'
        items = world.repository(place / "items", lines)
        test = place / "items" / world.TEST
        (test / "results.edn").write_text(kim_edn.dumps(given))
        spec = (test / "kimspec.edn").read_text().replace(world.PROPERTY, OWN)
        (test / "kimspec.edn").write_text(spec)
        for name, text in own.items():
            file = place / "items" / world.DRIVER / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (place / "scratch").mkdir()
        return run_test(world.pair(items), place / "scratch", sandbox, limits)

    return run


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (4.05, "angstrom", (4.05e-10, "m")),
        (-3, "eV", (-3 * 1.602176634e-19, "kg m^2 / s^2")),
        ([1.0, [2.0, -0.5]], "GPa", ([1e9, [2e9, -5e8]], "kg / m s^2")),
        (25.0, "tempC", (298.15, "K")),
        (-40.0, "tempF", (233.15, "K")),
        (2.0, "eV/angstrom^2", (2 * 16.02176634, "kg / s^2")),
        (0.5, "1", (0.5, "1")),
        (50, "percent", (0.5, "1")),
        (1, "1/K", (1.0, "/ K")),
    ],
)
def test_a_value_has_its_si_value_beside_it(
    value: object, unit: str, expected: tuple[Any, str], add: Callable[[Any], Any]
) -> None:
    """As the platform writes it: what GNU units prints."""
    has = {"source-value": value, "source-unit": unit}
    (found,) = add([{"instance-id": 1, "a": has}])
    got = found["a"].pop("si-value")
    assert found == {"instance-id": 1, "a": {**has, "si-unit": expected[1]}}
    if isinstance(got, list):
        assert got == expected[0]
    else:
        assert got == pytest.approx(expected[0], rel=1e-12)


@pytest.mark.parametrize(
    "unit",
    [
        "$(touch /tmp/pwned)",
        "eV; id",
        "`id`",
        "-f/etc/passwd",
        "--help",
        "help eV",
        "search m",
        "eV\nJ",
        "e" * 200,
        "",
        "parsec!",
        "nosuchunit",
        "eV + m",
        "(" * 90,
        3,
        None,
    ],
)
def test_what_is_no_unit_is_a_fault_of_the_results(unit: object, add: Callable[[Any], Any]) -> None:
    """It reaches no shell, no option and no pager."""
    with pytest.raises(RunError) as caught:
        add({"a": {"source-value": 1.0, "source-unit": unit}})
    assert str(caught.value).startswith("results.edn: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["1.0", True, [1.0, "x"], None])
def test_what_is_no_number_has_no_unit(value: object, add: Callable[[Any], Any]) -> None:
    with pytest.raises(RunError, match="has a unit, but is no number"):
        add({"a": {"source-value": value, "source-unit": "eV"}})


def test_too_many_units_are_refused(add: Callable[[Any], Any]) -> None:
    with pytest.raises(RunError, match="more than 100 units"):
        add([{"a": {"source-value": 1, "source-unit": f"m^{n}"}} for n in range(101)])


def test_a_unit_is_asked_for_once(
    add: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add({"a": {"source-value": 1.0, "source-unit": "eV"}})
    monkeypatch.setattr(si, "_ask", None)
    assert add({"a": {"source-value": 1.0, "source-unit": "eV"}}) == first


def test_without_gnu_units_the_machine_is_at_fault(
    add: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/none")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(SandboxError, match="Debian's package is units"):
        add({"a": {"source-value": 1.0, "source-unit": "eV"}})


def test_templates_convert_as_the_platform_does() -> None:
    assert units.convert(1.0, "eV", "J") == (1.602176634e-19, "J")
    with pytest.raises(ValueError, match="does not know"):
        units.convert(1.0, "eV", "m")


def test_a_definition_of_the_items_own_counts(run: Callable[..., Outcome]) -> None:
    """For the check of results, and for the programs of the Test by KIM_PROPERTY_PATH."""
    instance = {
        "property-id": OWN,
        "instance-id": 1,
        "number": {"source-value": 2.0, "source-unit": "eV"},
    }
    done = run([instance], {"local_props/deep/own.edn": kim_edn.dumps(DEFINITION)})
    assert done.fault == ""
    (found,) = edn.read(done.folder / "results.edn")
    assert found["number"]["si-value"] == pytest.approx(3.204353268e-19)
    paths = (done.folder / "pipeline.stdout").read_text().strip().split(":")
    assert [each for each in paths if each.endswith(f"{world.DRIVER}/local_props/**")]


@pytest.mark.parametrize(
    ("own", "fault"),
    [
        ({}, "does not exist in the input KIM properties"),
        ({"local-props/own.edn": "{"}, "own.edn is not EDN"),
        (
            {"local-props/own.edn": f'{{"property-id" "{OWN}"}}'},
            "own.edn is no property definition",
        ),
        ({"local-props/other.edn": '["none"]'}, "does not exist in the input KIM properties"),
        ({"elsewhere/own.edn": kim_edn.dumps(DEFINITION)}, "does not exist in"),
    ],
)
def test_a_definition_that_is_none_is_one_line(
    own: dict[str, str], fault: str, run: Callable[..., Outcome]
) -> None:
    done = run({"property-id": OWN, "instance-id": 1}, own)
    assert fault in done.fault
    assert done.fault.isprintable()


def test_results_of_100_megabytes_are_an_error_of_their_pair(place: Path, sandbox: Sandbox) -> None:
    """In no time and little memory; they are kept aside, to be looked at."""
    lines = "head -c 100M /dev/zero | tr '\\0' '[' >output/results.edn"
    items = world.repository(place / "items", lines)
    (place / "scratch").mkdir()
    limits = world.LIMITS.model_copy(update={"disk": 2**28})
    done = run_test(world.pair(items), place / "scratch", sandbox, limits)
    assert done.fault == "results.edn has more than 16777216 bytes"
    assert (done.folder / "results.edn.invalid").stat().st_size == 100 * 2**20
