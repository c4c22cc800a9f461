"""What templates find in the results that were given to their job."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kim_edn
import pytest

from kimpipeline.kim.items import ItemFolder
from kimpipeline.kim.query import documents, get_test_result, query
from kimpipeline.run.pair import Outcome, run_test
from kimpipeline.run.sandbox.confined import Sandbox
from tests.pipeline import world

NEEDED = "Energy_hcp_Al__TE_000000000930_002"
OTHER = {**world.RESULT, "instance-id": 2, "a": {"source-value": 3.0, "source-unit": "angstrom"}}
FOUND = documents([world.RESULT, OTHER], NEEDED, world.DRIVER, world.MODEL)
OF_IT = {"meta.runner.short-id": "TE_000000000930_002"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"project": ["a.source-value"]}, [4.05, 3.0]),
        ({"query": OF_IT, "project": ["a.source-value"], "limit": 1}, 4.05),
        ({"project": ["a.source-value"], "sort": [["a.source-value", 1]], "skip": 1}, 4.05),
        ({"project": ["a.source-value"], "sort": "a.source-value"}, [3.0, 4.05]),
        ({"project": ["instance-id", "a.source-unit"], "limit": 1}, [1, "angstrom"]),
        ({"query": {"instance-id": 2}, "fields": {"a": 1}, "flat": "on"},
         [{"a.source-value": 3.0, "a.source-unit": "angstrom"}]),
        ({"query": {"instance-id": 2}, "fields": {"a.source-value": 1}, "limit": 0},
         [{"a": {"source-value": 3.0}}]),
        ({"distinct": "property-id"}, [world.PROPERTY]),
        ({"query": {"a.source-value": {"$gt": 3, "$lt": 5}}, "project": ["instance-id"]}, 1),
        ({"query": {"species.source-value": {"$size": 4, "$all": ["Al"]}},
          "project": ["instance-id"]}, [1, 2]),
        ({"query": {"species.source-value": "Al"}, "project": ["instance-id"]}, [1, 2]),
        ({"query": {"species.source-value": {"$not": {"$elemMatch": {"$nin": ["Al"]}}}},
          "project": ["instance-id"]}, [1, 2]),
        ({"query": {"property-id": {"$regex": "/cohesive-.*$"}, "instance-id": {"$in": [2]}},
          "project": ["instance-id"]}, 2),
        ({"query": {"$or": [{"instance-id": 2}, {"instance-id": 3}]},
          "project": ["instance-id"]}, 2),
        ({"query": {"meta.type": "tr", "meta.runner.driver.shortcode": "TD_000000000902",
                    "meta.subject.extended-id": world.MODEL, "meta.runner.version": 2},
          "history": 1, "database": "data", "project": ["instance-id"]}, [1, 2]),
    ],
)  # fmt: skip
def test_a_query_finds_what_the_platforms_would(asked: dict[str, Any], expected: object) -> None:
    assert ast.literal_eval(query(FOUND, asked)) == expected


def test_documents_are_counted() -> None:
    assert query(FOUND, {"count": True}) == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            {"query": {"meta.subject.extended-id": "Other__MO_000000000999_000"}},
            "in dependencies.edn",
        ),
        ({"query": {"meta.type": "rd"}}, "no result that was given to this job is one"),
        ({"database": "obj"}, "there is no database 'obj' here"),
        ({"map": "function() {}"}, "there is no 'map' here"),
        ({"query": {"a": {"$where": "1"}}}, r"there is no '\$where' here"),
    ],
)
def test_what_is_not_among_the_given_is_one_line(asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        query(FOUND, asked)
    assert "\n" not in str(caught.value)


def test_a_test_result_is_found_in_the_units_that_are_asked_for() -> None:
    keys = ["a", "short-name", "property-id", "nothing"]
    words = (["TE_000000000930"], [world.MODEL], ["cohesive-potential-energy-cubic-crystal"])
    (first, _) = get_test_result(FOUND, *words, keys, ["nm", None, None, "SI"])
    assert first == [pytest.approx(0.405), ["fcc"], world.PROPERTY, None]
    (first, _) = get_test_result(FOUND, *words, ["a"], ["SI"])
    assert first == [pytest.approx(4.05e-10)]
    with pytest.raises(ValueError, match=r"name its Test in dependencies\.edn"):
        get_test_result(FOUND, ["TE_000000000999"], *words[1:], ["a"], ["SI"])
    with pytest.raises(ValueError, match="a unit, or null, for each key"):
        get_test_result(FOUND, *words, ["a"], [])


@pytest.fixture
def filled(place: Path, sandbox: Sandbox) -> Callable[..., Outcome]:
    """Runs a Test with this template; the results of another one are given to it."""

    def run(template: str, text: str) -> Outcome:
        items: ItemFolder = world.repository(place / "items")
        world.make_test(items.root, kimid=NEEDED)
        (items.root / world.TEST / "dependencies.edn").write_text(f'["{NEEDED}"]')
        (items.root / world.TEST / "pipeline.stdin.tpl").write_text(template)
        (place / "scratch").mkdir()
        pair, given = world.pair(items), {NEEDED: text}
        return run_test(pair, place / "scratch", sandbox, world.LIMITS, given=given)

    return run


TEMPLATE = f"""\
@< query({{"query": {{"meta.runner.extended-id": "{NEEDED}", "meta.subject.kimcode": MODELNAME}},
   "project": ["a.source-value"]}}) >@
@< get_test_result(test=["{NEEDED}"], model=[MODELNAME], prop=["{world.PROPERTY}"], keys=["a"],
   units=["nm"]) >@
@< convert(1, "eV", "J", suppress_unit=True) >@ @< convert(1, "GPa")[1] >@
"""


def test_a_template_asks_the_results_that_were_given(filled: Callable[..., Outcome]) -> None:
    """In the sandbox, with GNU units."""
    done = filled(TEMPLATE, kim_edn.dumps(world.RESULT))
    assert done.fault == ""
    first, second, third = (done.folder / "pipeline.stdin").read_text().splitlines()
    assert (float(first), ast.literal_eval(second)[0][0]) == (4.05, pytest.approx(0.405))
    assert third == "1.602176634e-19 kg / m s^2"


@pytest.mark.parametrize(
    ("template", "text", "fault"),
    [
        ('@< query({"query": {"instance-id": 9}}) >@', "[]", "no result that was given"),
        ("@< query({}) >@", "[", ""),
        ('@< convert(1, "$(id)") >@', "[]", "is no unit"),
        ('@< convert(1, "--version") >@', "[]", "does not know"),
        ('@< query({"query": {"short-name": {"$regex": "(a+)+$"}}}) >@',
         '[{"property-id" "x" "short-name" "' + "a" * 40 + '!"}]', "not done after"),
    ],
)  # fmt: skip
def test_a_query_that_fails_is_a_fault_of_its_test(
    template: str,
    text: str,
    fault: str,
    filled: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kimpipeline.run.pair._FILL_SECONDS", 2)
    done = filled(template, text)
    assert done.fault.startswith("pipeline.stdin.tpl: ")
    assert fault in done.fault
    assert done.fault.isprintable()
