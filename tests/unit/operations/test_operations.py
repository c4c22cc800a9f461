"""Run every case in cases/MODULE/OPERATION.json: what an operation yields for given facts.

A case: ``args``; ``facts`` (class name to the raw output that the fact would read, or the JSON it
would parse); then ``commands``, or ``noop``, or ``error`` (a part of each).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import OperationError
from pyinfra.api.facts import FactBase
from pyinfra.context import ctx_host

from deploys.operations.disks import Partition

CASES = Path(__file__).parent / "cases"
# Operations that only one deploy has are kept beside it.
ELSEWHERE = {"safety": "deploys.safety"}


class FakeHost:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.noops: list[str] = []

    def get_fact(self, fact: type[FactBase[Any]], **_: object) -> Any:
        if fact.__name__ not in self.facts:
            return fact.default()
        raw = self.facts[fact.__name__]
        lines = raw if isinstance(raw, list) else [json.dumps(raw)]
        return fact().process(lines)

    def noop(self, description: str) -> None:
        self.noops.append(description)


def _cases() -> Iterator[Any]:
    for file in sorted(CASES.glob("*/*.json")):
        for name, case in json.loads(file.read_text()).items():
            where = f"{file.parent.name}.{file.stem}"
            yield pytest.param(where, case, id=f"{where}-{name}")


def _run(where: str, case: dict[str, Any], host: FakeHost) -> list[str]:
    module, _, operation = where.partition(".")
    function = getattr(
        importlib.import_module(ELSEWHERE.get(module, f"deploys.operations.{module}")), operation
    )
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
