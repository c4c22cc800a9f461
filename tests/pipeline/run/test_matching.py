"""Which Tests run with which Models."""

from __future__ import annotations

from pathlib import Path

import pytest

from kimpipeline.errors import ItemError
from kimpipeline.kim.items import ItemFolder, Kimspec
from kimpipeline.run.matching import Pairs, find_pairs, fit, installed, latest, make_pair
from tests.pipeline import world

SPECIAL = "special-purpose-models"


def spec(kimid: str, species: tuple[str, ...], **keys: object) -> Kimspec:
    return Kimspec.model_validate({"extended-id": kimid, "species": species, **keys})


@pytest.mark.parametrize(
    ("test", "model", "fits"),
    [
        (("Al",), ("Al",), True),
        (("Al",), ("Al", "Ni"), True),
        (("Al", "Ni"), ("Al",), False),
        (("Al",), ("al",), False),
        ((), ("Al",), False),
    ],
)
def test_a_model_must_have_the_tests_species(
    test: tuple[str, ...], model: tuple[str, ...], fits: bool
) -> None:
    assert fit(spec(world.TEST, test), spec(world.MODEL, model)) is fits


def test_special_purpose_models_are_for_no_standard_test() -> None:
    model = spec(world.MODEL, ("Al",), **{"run-compatibility": SPECIAL})
    assert not fit(spec(world.TEST, ("Al",)), model)
    other = spec(world.TEST, ("Al",), **{"matching-models": [SPECIAL]})
    assert not fit(other, spec(world.MODEL, ("Al",)))


def test_a_verification_check_is_for_all_species() -> None:
    assert fit(spec("Forces__VC_000000000907_000", ()), spec(world.MODEL, ("Al",)))


def newer(kimid: str) -> str:
    return kimid[:-1] + "1"


@pytest.fixture
def items(tmp_path: Path) -> ItemFolder:
    """A Test of Al and one of Si, one Driver, a Model of each species."""
    found = world.repository(tmp_path / "items")
    world.make_test(found.root, kimid="Energy_diamond_Si__TE_000000000911_000", species=["Si"])
    world.item(found.root, "Pair_Si__MO_000000000913_000", species=["Si"])
    return found


def _pairs(items: ItemFolder, kimid: str) -> list[tuple[str, str]]:
    models = frozenset(items.names("MO"))
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
