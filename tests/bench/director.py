"""What an update costs a director that has KIM's numbers of Tests and Models."""

from __future__ import annotations

import time
from pathlib import Path

from deploys.errors import BoxError
from kimpipeline.files import scratch
from tests.bench.shared.rows import Row, Step, Target
from tests.bench.up import peak
from tests.pipeline import world
from tests.pipeline.station import Station, until

_TESTS, _MODELS = 4000, 800
_SECONDS, _MEMORY = Target(high=1), Target(high=300)
_DEADLINE = 120.0  # seconds until an update is given up


def director(step: Step) -> list[Row]:
    """Seconds from an operator's submit until all jobs of the update are there; peak memory in MB.

    The director is where the items are, as on a gateway, and its database is as durable as there.

    Raises:
        BoxError: an update was not done in time, or made another number of jobs.
    """
    with scratch() as folder, Station(folder / "station", durable=True) as station:
        step(f"making {_TESTS:,} Tests and {_MODELS} Models")
        world.program(world.item(station.items, world.DRIVER) / "runner", "true")
        tests = [f"Energy_fcc_Al__TE_{number:012d}_000" for number in range(_TESTS)]
        models = [f"Pair_Al__MO_{number:012d}_000" for number in range(_MODELS)]
        for name in tests:
            world.make_test(station.items, kimid=name)
        for name in models:
            world.item(station.items, name, species=["Al"])
            (station.models / name).mkdir()
        # its items are its own
        lines = station.director_file.read_text().splitlines()
        kept = [
            line for line in lines if not line.strip().startswith(f'items = "{station.items}/"')
        ]
        station.director_file.write_text("\n".join(kept))
        service = station.start("director")
        until(lambda: station.overview()["directors"] == 1)
        rows, jobs = [], 0
        # a pair that is there already makes no job
        for what, kimid, new in (
            ("the first update of a director, of a Model", models[0], _TESTS),
            ("an update of a Model", models[1], _TESTS),
            ("an update of a Test", tests[0], _MODELS - 2),
            ("the same update again", tests[0], 0),
        ):
            step(what)
            took = _update(station, kimid)
            jobs += new
            if station.counts().total() != jobs:
                raise BoxError(f"{what} made no {new} jobs; {station.said()}")
            rows.append(Row(f"director, {what}", "s", took, target=_SECONDS))
        memory = peak(Path(f"/proc/{service.pid}/status").read_text())
        return [*rows, Row("director, peak memory", "MB", memory, target=_MEMORY)]


def _update(station: Station, kimid: str) -> float:
    began = time.monotonic()
    station.submit(kimid)
    done = "select count(*) from pipeline.updates where state in ('ready', 'taken')"
    until(lambda: station.server.sql(done) == [(0,)], seconds=_DEADLINE)
    return time.monotonic() - began
