"""A whole pipeline on loopback: a real beanstalkd with its binlog, real rsync to folders, or to
what a gateway has at the other end of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

import greenstalk

from kimpipeline.queue.ledger import Ledger
from kimpipeline.settings import Settings, load
from tests.pipeline.far_end import FarEnd

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


def states(ledger: Ledger) -> dict[str, str]:
    """The state of each job that a director knows."""
    return dict(ledger._database.execute("select job, state from jobs"))


def counts(ledger: Ledger) -> Counter[str]:
    """How many jobs are in each state."""
    return Counter(states(ledger).values())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


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
    ) -> None:
        self.root = root
        self.items = root / "gateway/items"
        self.results = root / "gateway/results"
        self.models = root / "models"
        for folder in (self.items, self.results, self.models, root / "binlog"):
            folder.mkdir(parents=True)
        self.far = FarEnd(root / "gateway") if far else None
        places = f'items = "{self.items}/"\nresults = "{self.results}/"'
        if self.far:
            self.results = self.far.results
            places = f'items = "gateway:"\nresults = "gateway:"\nssh = ["{self.far.ssh}"]'
        self.port = _free_port()
        self.file = root / "pipeline.toml"
        self.file.write_text(
            f"""
            sandbox = "bubblewrap"
            [queue]
            port = {self.port}
            ttr = {ttr}
            patience = 1
            reach = {reach}
            [remote]
            {places}
            timeout = 10
            [folders]
            items = "{root}/worker/items"
            work = "{root}/worker/work"
            ledger = "{root}/director/ledger.sqlite"
            models = ["{self.models}"]
            [limits]
            {limits}
            """
        )
        # the director is where the items are
        self.director_file = root / "director.toml"
        own = self.file.read_text().replace(f"{root}/worker/items", str(self.items))
        self.director_file.write_text(own)
        self.log = (root / "log").open("ab")
        self._queue: subprocess.Popen[bytes] | None = None
        self._services: list[subprocess.Popen[bytes]] = []

    @property
    def settings(self) -> Settings:
        return load(self.file)

    @property
    def director_settings(self) -> Settings:
        return load(self.director_file)

    def __enter__(self) -> Self:
        self.start_queue()
        return self

    def __exit__(self, *_: object) -> None:
        for service in [*self._services, *([self._queue] if self._queue else [])]:
            service.kill()
            service.wait()
        self.log.close()

    def start_queue(self) -> None:
        """Start beanstalkd on what it had in its binlog, and wait until it answers."""
        program = shutil.which("beanstalkd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
        assert program, "beanstalkd is not installed"
        where = ["-l", "127.0.0.1", "-p", str(self.port)]
        argv = [program, *where, "-b", str(self.root / "binlog"), "-z", "10000000"]
        self._queue = subprocess.Popen(argv, stdout=self.log, stderr=self.log)
        until(self._answers)

    def cut_gateway(self) -> None:
        """Its power goes, at this instant, and comes again."""
        assert self.far
        with self.far.cut():
            self.kill_queue()
            self.start_queue()

    def kill_queue(self) -> None:
        assert self._queue
        self._queue.kill()
        self._queue.wait()

    def _answers(self) -> bool:
        try:
            with self.client():
                return True
        except OSError:
            return False

    def client(self, *watch: str) -> greenstalk.Client[bytes]:
        return greenstalk.Client(("127.0.0.1", self.port), encoding=None, watch=watch or "default")

    def put(self, tube: str, body: bytes, priority: int = 2**16) -> int:
        with self.client() as client:
            client.use(tube)
            return client.put(body, priority=priority)

    def bodies(self, tube: str) -> list[bytes]:
        """Take all that is ready on a tube."""
        found: list[bytes] = []
        with self.client(tube) as client:
            while True:
                try:
                    job = client.reserve(timeout=0)
                except greenstalk.TimedOutError:
                    return found
                found.append(job.body)
                client.delete(job)

    def count(self, tube: str, state: str) -> int:
        """How many messages of a tube are ``ready``, ``reserved``, ``delayed`` or ``buried``."""
        with self.client() as client:
            try:
                stats: dict[str, object] = {**client.stats_tube(tube)}
            except greenstalk.NotFoundError:
                return 0
        return int(str(stats[f"current-jobs-{state}"]))

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
        return sorted(path.parent.name for path in self.results.glob("*/results.edn"))

    def said(self) -> str:
        return (self.root / "log").read_text(errors="replace")
