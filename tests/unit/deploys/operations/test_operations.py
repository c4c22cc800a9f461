"""Run every case in cases/MODULE/OPERATION.json: what an operation yields for given facts.

A case: ``args``; ``facts`` (class name to the raw output that the fact would read, or the JSON it
would parse); then ``commands``, or ``noop``, or ``error`` (a part of each). A file's ``every case``
is what all its cases have, unless they say otherwise. Of block devices and of LVM's volumes a case
gives the names, and what matters of each; the rest of what the tools print of one is in rows.json.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import OperationError
from pyinfra.api.facts import FactBase
from pyinfra.context import ctx_host

from deploys.operations.disks import Partition

CASES = Path(__file__).parent / "cases"
ROWS = json.loads((CASES / "rows.json").read_text())


class FakeHost:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.noops: list[str] = []

    def get_fact(self, fact: type[FactBase[Any]], **_: object) -> Any:
        if fact.__name__ not in self.facts:
            return fact.default()
        raw = self.facts[fact.__name__]
        if fact.__name__ in PRINTED:
            raw = PRINTED[fact.__name__](raw)
        lines = raw if isinstance(raw, list) else [json.dumps(raw)]
        return fact().process(lines)

    def noop(self, description: str) -> None:
        self.noops.append(description)


def _devices(named: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [ROWS["device"] | row | {"path": path} for path, row in named.items()]
    return [
        row | {"children": _devices(row["children"])} if "children" in row else row for row in rows
    ]


def _lsblk(named: Mapping[str, Any]) -> dict[str, Any]:
    return {"blockdevices": _devices(named)}


def _fullreport(named: Mapping[str, Any]) -> dict[str, Any]:
    """Of the one group, or of a PV that is in none."""
    group = {"vg_name": "".join(named.get("vg", ()))}
    report = {
        kind: [
            ROWS[kind] | group | row | {f"{kind}_name": name}
            for name, row in named.get(kind, {}).items()
        ]
        for kind in ("vg", "pv", "lv")
    }
    return {"report": [report]}


# What the tools print, of the facts that name their rows.
PRINTED = {"BlockDevices": _lsblk, "Lvm": _fullreport}


def _joined(every: Mapping[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """The case's own values, and of what it does not say those of every case."""
    both = {
        name: _joined(every[name], value) if isinstance(value, dict) else value
        for name, value in case.items()
        if name in every
    }
    return {**every, **case, **both}


def _cases() -> Iterator[Any]:
    for file in sorted(CASES.glob("*/*.json")):
        cases = json.loads(file.read_text())
        every = cases.pop("every case", {})
        for name, case in cases.items():
            where = f"{file.parent.name}.{file.stem}"
            yield pytest.param(where, _joined(every, case), id=f"{where}-{name}")


def _run(where: str, case: dict[str, Any], host: FakeHost) -> list[str]:
    module, _, operation = where.partition(".")
    function = getattr(importlib.import_module(f"deploys.operations.{module}"), operation)
    args = dict(case["args"])
    if "layout" in args:
        args["layout"] = [Partition(**partition) for partition in args["layout"]]
    with ctx_host.use(host):
        return [command.get_raw_value() for command in function._inner(**args)]


@pytest.mark.parametrize(("where", "case"), list(_cases()))
def test_operation(where: str, case: dict[str, Any]) -> None:
    host = FakeHost(case.get("facts", {}))
    if "error" in case:
        with pytest.raises(OperationError, match=case["error"]):
            _run(where, case, host)
        return
    commands = _run(where, case, host)
    if "noop" in case:
        assert (commands, host.noops) == ([], [case["noop"]])
    else:
        assert commands == case["commands"]
        assert host.noops == []
