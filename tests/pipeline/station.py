"""A whole pipeline on this machine: a real PostgreSQL, real rsync to folders, or to what a gateway
has at the other end of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from kimpipeline.queue.messages import Job
from kimpipeline.queue.updates import Entry, Updates
from kimpipeline.settings import Settings, load
from tests.pipeline.far_end import FarEnd
from tests.pipeline.queue.server import PORT, Server

PACKAGE = Path(__file__).parents[2] / "static/pipeline"
# The services as a box starts them, but for the script that pip would make.
_START = "import sys; from kimpipeline import commands; sys.exit(commands.{}())"


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition; a failure of the test when it does not come."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.02)


class Station:
    """Folders for each role, the queue, and the services that a test starts; all end with it."""

    def __init__(
        self,
        root: Path,
        ttr: int = 30,
        limits: str = "seconds = 20",
        *,
        reach: float = 0,
        far: bool = False,
        durable: bool = False,
    ) -> None:
        self.root = root
        self.items = root / "gateway/items"
        self.results = root / "gateway/results"
        self.models = root / "models"
        for folder in (self.items, self.results, self.models):
            folder.mkdir(parents=True)
        self.far = FarEnd(root / "gateway") if far else None
        places = f'items = "{self.items}/"\nresults = "{self.results}/"'
        if self.far:
            self.results = self.far.results
            places = f'items = "gateway:"\nresults = "gateway:"\nssh = ["{self.far.ssh}"]'
        self.server = Server(root / "db", *([] if durable else ["-cfsync=off"]))
        self.file = root / "pipeline.toml"
        self.file.write_text(
            f"""
            sandbox = "bubblewrap"
            [queue]
            host = "{self.server.folder}"
            port = {PORT}
            user = "w1"
            ttr = {ttr}
            patience = 1
            reach = {reach}
            [remote]
            {places}
            timeout = 10
            [folders]
            items = "{root}/worker/items"
            work = "{root}/worker/work"
            models = ["{self.models}"]
            [limits]
            {limits}
            """
        )
        # the director is where the items are
        self.director_file = root / "director.toml"
        own = self.file.read_text().replace(f"{root}/worker/items", str(self.items))
        self.director_file.write_text(own.replace('"w1"', '"d1"'))
        self.log = (root / "log").open("ab")
        self._services: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> Settings:
        return load(self.file)

    @property
    def director_settings(self) -> Settings:
        return load(self.director_file)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for service in self._services:
            service.kill()
            service.wait()
        self.server.stop()
        self.log.close()

    def cut_gateway(self) -> None:
        """Its power goes, at this instant, and comes again."""
        assert self.far
        with self.far.cut():
            self.server.kill()
            self.server.start()

    def submit(self, kimid: str, priority: int = 2**16, status: str = "approved") -> None:
        """Ask for all pairs of an item, as an operator."""
        self.server.sql("select pipeline.submit(%s, %s, %s)", kimid, priority, status)

    def add(self, *jobs: Job) -> None:
        """Queue jobs, as a director who makes just these of an update."""
        self.submit("x")
        with Updates(self.server.settings("d2")) as updates:
            taken = updates.take(0)
            assert taken
            updates.add(taken, [Entry(job) for job in jobs])
            updates.finish(taken, "")

    def states(self) -> dict[str, str]:
        """The state of each job."""
        rows = self.server.sql("select id, state from pipeline.jobs order by priority, number")
        return dict(rows)

    def counts(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(self.states().values())

    def overview(self) -> dict[str, Any]:
        """What an operator sees of the queue."""
        ((found,),) = self.server.sql("select pipeline.overview()")
        return dict(found)

    def attempts(self) -> list[tuple[str, str, str]]:
        """Each attempt's job, how it ended, and its results or its reason."""
        return self.server.sql(
            "select job, how, coalesce(results, reason, '') from pipeline.attempts order by id"
        )

    def start(self, service: str, *argv: str) -> subprocess.Popen[bytes]:
        """``worker`` or ``director`` as a process of its own."""
        file = self.director_file if service == "director" else self.file
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "KIMPIPELINE_SETTINGS": str(file)}
        started = subprocess.Popen(
            [sys.executable, "-c", _START.format(service), *argv],
            env=environment,
            stdout=self.log,
            stderr=self.log,
        )
        self._services.append(started)
        return started

    def delivered(self) -> list[str]:
        """The jobs that have their results here."""
        found = self.results.glob("*/results.edn")
        return sorted({path.parent.name.partition(".")[0] for path in found})

    def said(self) -> str:
        return (self.root / "log").read_text(errors="replace")
