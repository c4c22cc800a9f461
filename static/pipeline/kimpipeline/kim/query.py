"""``query`` and ``get_test_result`` of templates, over the results that were given to a job.

A job reaches no database. What the platform's queries find of these results, with the same names
and operators, is found here; what they would find elsewhere is a fault with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kimpipeline.kim.units import convert

Document = dict[str, Any]
_KIMID = re.compile(r"(?:([A-Za-z_]\w*?)__)?([A-Z]{2})_(\d{12})(?:_(\d{3}))?", re.ASCII)
_LACKS = "no result that was given to this job is one: name its Test in dependencies.edn"
_IGNORED = ("history", "database")
_KNOWN = ("query", "fields", "sort", "skip", "limit", "distinct", "project", "flat", "count")


def parse_kim_code(kimid: str) -> tuple[str | None, ...]:
    """Prefix, kind, number and version of a KIM id; None for what it lacks."""
    found = _KIMID.fullmatch(kimid)
    if found is None:
        raise ValueError(f"{kimid!r} is no KIM id")
    return found.groups()


def documents(results: Iterable[Document], test: str, driver: str, model: str) -> list[Document]:
    """The instances of one result, each with the platform's ``meta`` of what it comes from."""
    runner = _about(test)
    if driver:
        runner["driver"] = _about(driver)
    kind = "vr" if runner["type"] == "vc" else "tr"
    meta = {"type": kind, "runner": runner, "subject": _about(model)}
    return [{**each, "meta": meta} for each in results]


def _about(kimid: str) -> Document:
    name, kind, number, version = parse_kim_code(kimid)
    short, version = f"{kind}_{number}", f"{version}"
    return {
        **dict.fromkeys(("extended-id", "kimcode"), kimid),
        **dict.fromkeys(("name", "kimid-prefix"), name),
        **dict.fromkeys(("type", "kimid-typecode"), f"{kind}".lower()),
        **dict.fromkeys(("kimnum", "kimid-number"), number),
        **dict.fromkeys(("version", "kimid-version-as-integer"), int(version)),
        "kimid-version": version,
        "shortcode": short,
        "short-id": f"{short}_{version}",
    }


def query(found: list[Document], asked: Mapping[str, Any]) -> Any:
    """What the platform's ``query`` gives for these documents.

    Raises:
        ValueError: it asks for something else, or nothing is found.
    """
    if asked.get("database", "data") != "data":
        raise ValueError(f"query: there is no database {asked['database']!r} here, just results")
    if unknown := sorted(asked.keys() - {*_KNOWN, *_IGNORED}):
        raise ValueError(f"query: there is no {unknown[0]!r} here")
    chosen = [each for each in found if _matches(each, asked.get("query") or {})]
    if not chosen:
        raise ValueError(f"query: {_LACKS}")
    order = asked.get("sort") or []
    for key, way in reversed([(order, 1)] if isinstance(order, str) else order):
        chosen.sort(key=lambda each: _order(_value(each, key)), reverse=way < 0)
    chosen = chosen[asked.get("skip") or 0 :]
    chosen = chosen[: asked.get("limit") or None]
    if asked.get("count"):
        return len(chosen)
    if key := asked.get("distinct"):
        values = [_value(each, key) for each in chosen]
        return str([each for at, each in enumerate(values) if each not in values[:at]])
    flat = [_projected(_flat(each), asked.get("fields") or {}) for each in chosen]
    if keys := asked.get("project"):
        rows = [[each.get(key) for key in keys] for each in flat if not {*keys} - each.keys()]
        short = [row[0] if len(row) == 1 else row for row in rows]
        return str(short[0] if len(short) == 1 else short)
    return str(flat if asked.get("flat") else [_deep(each) for each in flat])


def get_test_result(
    found: list[Document],
    test: list[str],
    model: list[str],
    prop: list[str],
    keys: list[str],
    units: list[str | None],
) -> list[list[Any]]:
    """What the platform's ``get_test_result`` gives for these documents.

    Raises:
        ValueError: it asks for something else, or nothing is found.
    """
    if len(keys) != len(units):
        raise ValueError("get_test_result: a unit, or null, for each key")
    chosen = [
        each
        for each in found
        if _is(each["meta"]["runner"], test[0])
        and _is(each["meta"]["subject"], model[0])
        and prop[0] in (each["property-id"], each["property-id"].rpartition("/")[2])
    ]
    if not chosen:
        raise ValueError(f"get_test_result: {_LACKS}")
    wanted = [*zip(keys, units, strict=True)]
    return [[_in_unit(each.get(key), unit) for key, unit in wanted] for each in chosen]


def _is(item: Document, kimid: str) -> bool:
    _, kind, number, version = parse_kim_code(kimid)
    short = f"{kind}_{number}"
    return short == item["shortcode"] and version in (None, item["kimid-version"])


def _in_unit(value: Any, unit: str | None) -> Any:
    """The value of a key of a property instance in a unit; ``SI`` is one, None leaves it."""
    if not isinstance(value, dict) or unit is None:
        return value["source-value"] if isinstance(value, dict) else value
    wanted = "" if unit.upper() == "SI" else unit

    def inner(number: Any) -> Any:
        if isinstance(number, list):
            return [inner(each) for each in number]
        return convert(float(number), value["source-unit"], wanted)[0]

    return inner(value["source-value"])


def _value(document: Any, key: str) -> Any:
    """The value of a key with dots; None if it is not there."""
    for name in key.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _order(value: Any) -> tuple[bool, str, Any]:
    known = isinstance(value, (int, float, str))
    return (not known, "s" if isinstance(value, str) else "n", value if known else 0)


def _any(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A condition holds for a list if it holds for one of its elements, as in MongoDB."""
    return lambda has: test(has) or (isinstance(has, list) and any(map(test, has)))


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda has, it: _any(lambda one: one == it)(has),
    "$ne": lambda has, it: not _any(lambda one: one == it)(has),
    "$in": lambda has, it: _any(lambda one: one in it)(has),
    "$nin": lambda has, it: not _any(lambda one: one in it)(has),
    "$gt": lambda has, it: _any(lambda one: type(one) in (int, float) and one > it)(has),
    "$gte": lambda has, it: _any(lambda one: type(one) in (int, float) and one >= it)(has),
    "$lt": lambda has, it: _any(lambda one: type(one) in (int, float) and one < it)(has),
    "$lte": lambda has, it: _any(lambda one: type(one) in (int, float) and one <= it)(has),
    "$exists": lambda has, it: (has is not None) == bool(it),
    "$size": lambda has, it: isinstance(has, list) and len(has) == it,
    "$all": lambda has, it: all(each == has or (each in (has or ())) for each in it),
    "$regex": lambda has, it: _any(lambda one: isinstance(one, str) and _found(it, one))(has),
    "$not": lambda has, it: not _holds(has, it),
    "$elemMatch": lambda has, it: isinstance(has, list) and any(_holds(one, it) for one in has),
}


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def _holds(has: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return _OPERATORS["$eq"](has, wanted)
    if unknown := sorted(wanted.keys() - _OPERATORS.keys()):
        raise ValueError(f"query: there is no {unknown[0]!r} here")
    return all(_OPERATORS[name](has, it) for name, it in wanted.items())


def _matches(document: Document, wanted: Mapping[str, Any]) -> bool:
    for key, it in wanted.items():
        if key in ("$and", "$or"):
            if not (all if key == "$and" else any)(_matches(document, each) for each in it):
                return False
        elif not _holds(_value(document, key), it):
            return False
    return True


def _flat(document: Document) -> Document:
    out: Document = {}
    for key, value in document.items():
        inner = _flat(value) if isinstance(value, dict) else None
        out |= {f"{key}.{name}": each for name, each in inner.items()} if inner else {key: value}
    return out


def _deep(document: Document) -> Document:
    out: Document = {}
    for key, value in document.items():
        *folders, name = key.split(".")
        place = out
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return out


def _projected(flat: Document, fields: Mapping[str, Any]) -> Document:
    """The fields that are asked for, or all but those that are not wanted."""
    if not fields:
        return flat

    def named(key: str) -> bool:
        return any(f"{key}.".startswith(f"{field}.") for field in fields)

    wanted = any(fields.values())
    return {key: value for key, value in flat.items() if named(key) == wanted}
