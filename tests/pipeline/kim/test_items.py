"""KIM items: names, kimspec.edn, the sample items, templates and results."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from kimpipeline.errors import ItemError, RunError
from kimpipeline.kim import edn, results, template
from kimpipeline.kim.items import ItemFolder, load
from kimpipeline.kim.kimid import check_kimid, code, job_id, kind
from kimpipeline.run.pair import Pair, stdin
from tests.pipeline import world

SAMPLES = Path(__file__).parents[3] / "static/pipeline/items"
SI = "LatticeConstantCubicEnergy_diamond_Si__TE_000000000111_000"
SW = "SW_StillingerWeber_1985_Si__MO_405512056662_005"
TD = "LatticeConstantCubicEnergy__TD_000000000101_000"
HOSTILE = [
    "../etc/passwd",
    "/etc/passwd",
    "..",
    "",
    f"../{world.TEST}",
    f"{world.TEST}/..",
    f"{world.TEST} ",
    f"{world.TEST}\n",
    f"a b{world.TEST}",
    f"$(id){world.TEST}",
    f"-e{world.TEST}",
    f"host:{world.TEST}",
    world.TEST.replace("9", "\N{ARABIC-INDIC DIGIT NINE}"),
    "A" * 200 + world.TEST,
    "Energy__XX_000000000901_000",
    "Energy__TE_901_000",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_kim_id_reaches_no_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="is no KIM id") as caught:
        world.repository(tmp_path / "items").get(name)
    assert "\n" not in str(caught.value)


def test_the_parts_of_a_kim_id() -> None:
    assert check_kimid(SW) == SW
    assert (kind(SW), code(SW)) == ("MO", "MO_405512056662_005")


def test_a_job_is_named_by_the_pair_and_all_versions() -> None:
    first = job_id(SI, SW, [TD])
    assert first.startswith("TE_000000000111_000-and-MO_405512056662_005-")
    assert first == job_id(SI, SW, [TD])
    assert first != job_id(SI, SW, [TD.replace("_000", "_001")])


def filled(pair: Pair) -> str:
    source = stdin(pair)
    return template.render(source.template, source.names, source.paths)


def test_the_sample_items_are_whole() -> None:
    """Each is valid, has what it needs, and a program that can be run."""
    items = ItemFolder(SAMPLES)
    tests = list(items.items("TE"))
    assert [test.kimid for test in tests] == items.names("TE")
    assert len(tests) == 3
    for test in tests:
        assert os.access(test.runner, os.X_OK)
        (driver,) = items.closure(test)
        assert driver.kimid == TD
        assert os.access(driver.runner, os.X_OK)
        assert set(test.spec.properties) <= set(results.properties())
        first, model, species, *_ = filled(Pair(test, items.get(SW), (driver,))).splitlines()
        assert (first, model) == (str(driver.runner), SW)
        assert species in test.spec.species
    assert len(list(items.items("MO"))) == 3


def test_the_sample_driver_writes_valid_results(tmp_path: Path) -> None:
    """With a LAMMPS that knows the answer: the input it gets, and what is made of its output."""
    world.program(
        tmp_path / "lmp",
        'grep -q \'^kim init .* metal$\' "$2" && cp "$2" seen && '
        "echo 5.430949738 -4.336400000 >output/lattice.txt",
    )
    (tmp_path / "output").mkdir()
    items = ItemFolder(SAMPLES)
    test = items.get(SI)
    done = subprocess.run(
        [test.runner],
        input=filled(Pair(test, items.get(SW), items.closure(test))),
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    structure, energy = results.check(tmp_path / "output/results.edn", test.spec.properties)
    assert structure["a"]["source-value"] == 5.43095
    assert len(structure["basis-atom-coordinates"]["source-value"]) == 8
    assert energy["cohesive-potential-energy"]["source-value"] == 4.3364
    assert f"kim init {SW} metal" in (tmp_path / "seen").read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not EDN"),
        (b"{", "is not EDN"),
        (b"[" * 100_000, "is not EDN"),
        (b"\xff", "is not UTF-8"),
        (b"[1 2]", "kimspec.edn: all of it: "),
        (b'{"species" "A l"}', "species.0: "),
        (b'{"kim-api-version" "two"}', "kim-api-version: "),
        (b'{"dependencies" ["../x"]}', "dependencies.0: '../x' is no KIM id"),
        (b'{"extended-id" "../x"}', "is no KIM id"),
        (b'{"extended-id" "Other__TE_000000000999_000"}', "kimspec.edn is of Other__TE"),
        (b'{"extended-id" 3}', "extended-id: "),
    ],
)
def test_a_kimspec_that_is_none_is_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    folder = world.item(tmp_path, world.TEST)
    (folder / "kimspec.edn").write_bytes(content)
    with pytest.raises(ItemError) as caught:
        load(folder)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(world.TEST)
    assert "\n" not in str(caught.value)


def test_a_kimspec_may_say_little(tmp_path: Path) -> None:
    folder = tmp_path / world.TEST
    folder.mkdir()
    (folder / "kimspec.edn").write_text('{"species" "Al" "title" "nothing more"}')
    found = load(folder)
    assert (found.kimid, found.spec.species, found.needs) == (world.TEST, ("Al",), ())


@pytest.mark.parametrize("content", ["{", '{"a" 1}', "[1]", '[["a" "b"]]', '["../x"]', '["$(id)"]'])
def test_dependencies_that_are_none_are_one_line(content: str, tmp_path: Path) -> None:
    folder = world.item(tmp_path, world.TEST)
    (folder / "dependencies.edn").write_text(content)
    with pytest.raises(ItemError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{world.TEST}: ")
    assert "dependencies" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dependencies_of_both_files_count_and_a_change_is_seen(tmp_path: Path) -> None:
    folder = world.item(tmp_path, world.TEST, dependencies="TE_000000000902")
    items = ItemFolder(tmp_path)
    assert items.get(world.TEST).needs == ("TE_000000000902",)
    (folder / "dependencies.edn").write_text('["Other*__TE_000000000903"]')
    assert items.get(world.TEST).needs == ("Other*__TE_000000000903", "TE_000000000902")
    (folder / "dependencies.edn").unlink()
    (folder / "dependencies.edn").symlink_to("/etc/passwd")
    with pytest.raises(ItemError, match=r"dependencies\.edn: "):
        load(folder)


def test_items_are_found_by_a_part_of_their_name(tmp_path: Path) -> None:
    """By the KIM id with or without prefix and version; of each the newest is found."""
    old, new = "Pair_Al__MO_000000000903_000", "Pair_Al__MO_000000000903_001"
    other = "Pair_Al_Ni__MO_000000000904_000"
    for kimid in (old, new, other, world.TEST):
        world.item(tmp_path, kimid)
    items = ItemFolder(tmp_path)
    for pattern in ("MO_000000000903", "Pair_Al__MO_000000000903", "Pair_Al__*", new):
        assert items.find(pattern) == [new]
    assert items.find("MO_000000000903_000") == [old]
    assert items.find("Pair_*") == [other, new]
    assert items.find("*", "TE") == [world.TEST]
    assert items.find_one("MO_00000000090?_001") == new
    with pytest.raises(ItemError, match="is the name of 2 items"):
        items.find_one("Pair_*")
    for pattern in ("Pair", "MO_999999999999", *HOSTILE):
        with pytest.raises(ItemError) as caught:
            items.find(pattern)
        assert "\n" not in str(caught.value)


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "small").write_bytes(b"1")
    (tmp_path / "link").symlink_to("small")
    (tmp_path / "large").write_bytes(b"1" * 11)
    for name in ("pipe", "link", "large", "none", "."):
        with pytest.raises(ItemError):
            edn.read_text(tmp_path / name, largest=10)


def test_a_linked_item_is_none(tmp_path: Path) -> None:
    folder = world.item(tmp_path / "elsewhere", world.TEST)
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / world.TEST).symlink_to(folder)
    with pytest.raises(ItemError, match="there is no such item"):
        ItemFolder(tmp_path / "items").get(world.TEST)


def test_what_needs_each_other_ends(tmp_path: Path) -> None:
    """A circle of dependencies is walked once; a missing one is named."""
    other = "Other__TD_000000000905_000"
    world.item(tmp_path, world.DRIVER, dependencies=[other])
    world.item(tmp_path, other, dependencies=[world.DRIVER])
    test = load(world.item(tmp_path, world.TEST, test_driver=world.DRIVER))
    items = ItemFolder(tmp_path)
    assert [each.kimid for each in items.closure(test)] == [world.DRIVER, other]
    (tmp_path / other / "kimspec.edn").unlink()
    with pytest.raises(ItemError, match=f"{other}: kimspec.edn: No such file"):
        items.closure(test)


NAMES = {"MODELNAME": SW, "TESTNAME": SI}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('@< path("Other__TD_000000000905_000") >@', "is not in kimspec.edn's needs"),
        ('@< path("../../etc") >@', "is not in kimspec.edn's needs"),
        ("@< VCNAME >@", "'VCNAME' is undefined"),
    ],
)
def test_a_simple_template_that_asks_for_more_is_refused(text: str, reason: str) -> None:
    assert template.is_simple(text)
    with pytest.raises(ItemError, match=rf"^pipeline\.stdin\.tpl: .*{re.escape(reason)}"):
        template.render(text, NAMES, {TD: "/items/td/runner"})


def test_a_template_is_filled_once() -> None:
    """What is filled in is not looked at for tags again."""
    text = "@<MODELNAME>@\n@< path('a') >@@<MODELNAME>@ @"
    assert template.is_simple(text)
    filled = template.render(text, {"MODELNAME": "M"}, {"a": "@< MODELNAME >@"})
    assert filled == "M\n@< MODELNAME >@M @"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('@< query({"flat": "on"}) >@', "query looks in results that are given to the job"),
        ("@[ for i in range(10) ]@x", "Unexpected end of template"),
        ("@# comment", "Missing end of comment tag"),
        ("@< MODELNAME", "unexpected"),
        ("@< nothing|json >@", "'nothing' is undefined"),
        ("@< " + "(" * 100_000, ""),
        ("@< '\x1b'|none >@ @[", ""),
    ],
)
def test_a_template_that_is_none_is_one_line(text: str, reason: str) -> None:
    assert not template.is_simple(text)
    with pytest.raises(ItemError) as caught:
        template.check(text, NAMES, given=False)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_templates_constants_are_not_worked_out() -> None:
    template.check("@< 'a' * 10 ** 11 >@", NAMES, given=False)


def _without(key: str) -> dict[str, object]:
    return {name: value for name, value in world.RESULT.items() if name != key}


@pytest.mark.parametrize(
    ("instances", "reason"),
    [
        ({}, "property-id"),
        ([], "and no list"),
        ("results", "is no property instance"),
        (["/etc/passwd"], "is no map"),
        ([[world.RESULT]], "is no map"),
        ([{}], "property-id"),
        ([_without("property-id")], "property-id"),
        ([_without("cohesive-potential-energy")], "cohesive-potential-energy"),
        ([world.RESULT, world.RESULT], "instance-id is there twice"),
        ([{**world.RESULT, "a": 4.05}], ""),
        ([{**world.RESULT, "a": {"source-value": "four", "source-unit": "angstrom"}}], ""),
        ([{**world.RESULT, "property-id": 3}], ""),
    ],
)
def test_results_that_are_not_valid_are_one_line(
    instances: object, reason: str, tmp_path: Path
) -> None:
    edn.write(tmp_path / "results.edn", instances)
    with pytest.raises(RunError) as caught:
        results.check(tmp_path / "results.edn", ())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_valid_results_of_another_property_are_refused(tmp_path: Path) -> None:
    edn.write(tmp_path / "results.edn", [world.RESULT])
    assert results.check(tmp_path / "results.edn", (world.PROPERTY,)) == [world.RESULT]
    edn.write(tmp_path / "one.edn", world.RESULT)
    assert results.check(tmp_path / "one.edn", (world.PROPERTY,)) == world.RESULT
    with pytest.raises(RunError, match=r"is not in kimspec\.edn"):
        results.check(tmp_path / "results.edn", ("tag:other",))
