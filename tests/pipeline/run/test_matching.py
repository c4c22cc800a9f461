"""Which Tests run with which Models."""

from __future__ import annotations

from pathlib import Path

import pytest

from kimpipeline.errors import ItemError
from kimpipeline.kim.items import ItemFolder, Kimspec
from kimpipeline.run.matching import Pairs, find_pairs, latest, make_pair, misfit
from kimpipeline.run.products import installed
from tests.pipeline import world

SM = "Sim_LAMMPS_Pair_Al__SM_000000000908_000"
VC = "Forces__VC_000000000907_000"
SPECIAL = "special-purpose-models"


def spec(kimid: str, species: object = ("Al",), **keys: object) -> Kimspec:
    named = {name.replace("_", "-"): value for name, value in keys.items()}
    return Kimspec.model_validate({"extended-id": kimid, "species": species, **named})


@pytest.mark.parametrize(
    ("test", "model", "fits"),
    [
        (("Al",), ("Al",), True),
        (("Al",), ("Al", "Ni"), True),
        (("Al", "Ni"), ("Al",), False),
        (("Al",), ("AL",), True),
        ("al", ["Ni", "Al"], True),
        ("Al", "Ni", False),
        ((), ("Al",), False),
    ],
)
def test_a_model_must_have_the_tests_species(test: object, model: object, fits: bool) -> None:
    """A text or a list, in any case."""
    assert (misfit(spec(world.TEST, test), spec(world.MODEL, model), "") == "") is fits


def test_a_verification_check_is_for_all_species() -> None:
    assert not misfit(spec(VC, ()), spec(world.MODEL), "")


@pytest.mark.parametrize(
    ("named", "potential", "fits"),
    [
        (["iff/cvff"], "iff/cvff", True),
        ("iff/cvff", "iff/cvff", True),
        (["iff/cvff"], "iff/cvff/long", False),
        (["iff/"], "iff/cvff/long", True),
        (["iff/"], "iff", False),
        (["iff"], "iff/cvff", False),
        (["standard-models", "iff/"], "iff/cvff", True),
    ],
)
def test_a_test_of_special_models_runs_with_those_it_names(
    named: object, potential: str, fits: bool
) -> None:
    """Of simulator models, whatever their run-compatibility; with portable ones never."""
    test = spec(world.TEST, matching_models=named)
    model = spec(SM, simulator_name="LAMMPS", simulator_potential=potential)
    assert (misfit(test, model, "LAMMPS") == "") is fits
    assert "is for models of the kind" in misfit(test, spec(world.MODEL), "LAMMPS")


def test_special_models_are_for_no_standard_test() -> None:
    model = spec(SM, simulator_name="LAMMPS", run_compatibility=SPECIAL)
    assert "special-purpose-models" in misfit(spec(world.TEST), model, "LAMMPS")
    assert not misfit(spec(world.TEST), spec(SM, simulator_name="LAMMPS"), "LAMMPS")


@pytest.mark.parametrize(
    ("test", "model", "fits"),
    [
        ("LAMMPS", "lammps", True),
        ("ase", "LAMMPS", True),
        ("ASE", "ASAP", True),
        ("ase", "GULP", False),
        ("GULP", "LAMMPS", False),
        ("", "LAMMPS", False),
        ("LAMMPS", "", False),
    ],
)
def test_a_simulator_model_is_for_its_simulator(test: str, model: str, fits: bool) -> None:
    why = misfit(spec(world.TEST), spec(SM, simulator_name=model), test)
    assert (why == "") is fits
    assert "\n" not in why
    assert not misfit(spec(world.TEST), spec(world.MODEL), test)  # the KIM API is its simulator


def test_an_item_of_another_kim_api_is_refused_with_the_reason() -> None:
    old = spec(world.MODEL, kim_api_version="1.6.3")
    assert misfit(spec(world.TEST), old, "") == f"{world.MODEL} is for KIM API 1.6.3, here is 2"
    assert misfit(spec(world.TEST, kim_api_version="3.0"), spec(world.MODEL), "")


def newer(kimid: str) -> str:
    return kimid[:-1] + "1"


@pytest.fixture
def items(tmp_path: Path) -> ItemFolder:
    """A Test of Al and one of Si, one Driver, a Model of each species."""
    found = world.repository(tmp_path / "items")
    world.make_test(found.root, kimid="Energy_diamond_Si__TE_000000000911_000", species=["Si"])
    world.item(found.root, "Pair_Si__MO_000000000913_000", species=["Si"])
    return found


def _pairs(items: ItemFolder, kimid: str, *more: str) -> list[tuple[str, str]]:
    models = frozenset([*items.names("MO"), *more])
    return [(pair.test.kimid, pair.model.kimid) for pair in find_pairs(items, kimid, models).pairs]


def test_pairs_of_each_kind_of_item(items: ItemFolder) -> None:
    aluminium = (world.TEST, world.MODEL)
    silicon = ("Energy_diamond_Si__TE_000000000911_000", "Pair_Si__MO_000000000913_000")
    assert _pairs(items, world.TEST) == [aluminium]
    assert _pairs(items, silicon[1]) == [silicon]
    assert sorted(_pairs(items, world.DRIVER)) == sorted([aluminium, silicon])


def test_only_installed_models_are_taken(items: ItemFolder, tmp_path: Path) -> None:
    collection = tmp_path / "lib/x86/kim-api/portable-models"
    (collection / world.MODEL).mkdir(parents=True)
    found = installed([f"{tmp_path}/lib/*/kim-api/portable-models", "/no/such/folder"])
    assert found == {world.MODEL}
    silicon = "Pair_Si__MO_000000000913_000"
    assert find_pairs(items, silicon, found) == Pairs([], [silicon])
    of_driver = find_pairs(items, world.DRIVER, found)
    assert (len(of_driver.pairs), of_driver.lacking) == (1, [silicon])
    assert find_pairs(items, world.TEST, found).lacking == []


def test_what_is_said_of_many_models_that_are_missing_is_one_short_line() -> None:
    assert Pairs([], []).missing == ""
    assert Pairs([], ["M0", "M1"]).missing == "; the KIM API here lacks M0, M1"
    names = [f"M{number}" for number in range(800)]
    assert Pairs([], names).missing == "; the KIM API here lacks M0, M1, M2 and 797 more"


def test_others_take_part_in_their_latest_version(items: ItemFolder) -> None:
    world.item(items.root, newer(world.MODEL), species=["Al"])
    assert _pairs(items, world.TEST) == [(world.TEST, newer(world.MODEL))]
    # one that was asked for itself is taken as it is
    assert _pairs(items, world.MODEL) == [(world.TEST, world.MODEL)]
    assert [each.kimid for each in latest(items.items("TD"))] == [world.DRIVER]


def test_a_driver_in_its_newer_version_has_the_tests_that_name_it(items: ItemFolder) -> None:
    world.program(world.item(items.root, newer(world.DRIVER)) / "runner", "true")
    assert _pairs(items, newer(world.DRIVER)) == []
    world.make_test(items.root, kimid=newer(world.TEST), test_driver=newer(world.DRIVER))
    assert _pairs(items, newer(world.DRIVER)) == [(newer(world.TEST), world.MODEL)]


def test_a_changed_kimspec_is_seen(items: ItemFolder) -> None:
    assert _pairs(items, world.MODEL)
    file = items.root / world.MODEL / "kimspec.edn"
    text = file.read_text().replace("Al", "Si", 2)
    file.unlink()
    file.write_text(text.replace("Pair_Si", "Pair_Al"))
    assert _pairs(items, world.MODEL) == [("Energy_diamond_Si__TE_000000000911_000", world.MODEL)]


def test_the_simulator_is_the_drivers(items: ItemFolder) -> None:
    world.item(items.root, SM, species="Al", simulator_name="LAMMPS")
    assert (world.TEST, SM) not in _pairs(items, world.TEST, SM)
    (items.root / world.DRIVER / "kimspec.edn").write_text('{"simulator-name" "LAMMPS"}')
    assert _pairs(items, world.TEST, SM) == [(world.TEST, world.MODEL), (world.TEST, SM)]
    assert make_pair(items, world.TEST, SM)


def test_a_models_driver_need_not_be_here(items: ItemFolder) -> None:
    """The installed Model has it. Its version is recorded all the same."""
    driver = "Pair__MD_000000000920_000"
    name = "Pair_Al_Driven__MO_000000000921_000"
    world.item(items.root, name, species=["Al"], model_driver=driver)
    pair = make_pair(items, world.TEST, name)
    assert driver in pair.versions
    world.item(items.root, driver)
    assert make_pair(items, world.TEST, name).id == pair.id
    assert _pairs(items, driver) == [(world.TEST, name)]


def test_a_dependency_without_a_version_is_the_newest(items: ItemFolder) -> None:
    """In the pair's versions, and so in its id, it has its version."""
    needed = "Energy_hcp_Al__TE_000000000930_000"
    world.make_test(items.root, kimid=needed)
    (items.root / world.TEST / "dependencies.edn").write_text('["TE_000000000930"]')
    first = make_pair(items, world.TEST, world.MODEL)
    assert needed in first.versions
    world.make_test(items.root, kimid=newer(needed))
    second = make_pair(items, world.TEST, world.MODEL)
    assert newer(needed) in second.versions
    assert needed not in second.versions
    assert first.id != second.id


@pytest.mark.parametrize(
    ("test", "model", "reason"),
    [
        (world.MODEL, world.MODEL, "is no Test"),
        (world.TEST, world.DRIVER, "is no Model"),
        (world.TEST, "Pair_Si__MO_000000000913_000", r"\(Al\) is not for .* \(Si\)"),
        (world.TEST, newer(world.MODEL), "there is no such item"),
    ],
)
def test_what_is_no_pair_is_refused(test: str, model: str, reason: str, items: ItemFolder) -> None:
    with pytest.raises(ItemError, match=reason):
        make_pair(items, test, model)
