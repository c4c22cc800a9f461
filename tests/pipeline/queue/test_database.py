"""Faults of the database: each is one line, and nothing that was answered is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kimpipeline.errors import QueueError
from kimpipeline.files import scratch
from tests.pipeline.queue.boxes import add, entry, states, take, worker
from tests.pipeline.queue.server import Server


def test_an_older_schema_is_one_line(server: Server) -> None:
    server.sql("delete from pipeline.versions where version > 1")
    with pytest.raises(QueueError, match=r"has schema 1.*: provision the gateway$"):
        worker(server)
    server.sql("drop schema pipeline cascade")
    with pytest.raises(QueueError, match="provision the gateway"):
        worker(server)


def test_a_database_that_is_down_is_one_line(server: Server) -> None:
    with worker(server) as jobs:
        server.kill()
        with pytest.raises(QueueError) as caught:
            jobs.take(0)
        assert "\n" not in str(caught.value)
    with pytest.raises(QueueError, match=r"^the queue: .*No such file|refused"):
        worker(server)
    server.start()
    with worker(server) as jobs:
        assert jobs.take(0) is None


def test_a_database_that_was_killed_has_all_that_it_answered() -> None:
    """With fsync as in life: what a worker was told is done stays done."""
    with scratch() as folder:
        server = Server(folder / "db")
        server.start()
        add(server, entry(1), entry(2))
        with worker(server) as jobs:
            jobs.finish(take(jobs), 1, "[1]")
            lease = take(jobs)
        server.kill()
        server.start()
        with worker(server) as jobs:
            jobs.finish(lease, 1, "[2]")  # the lease outlives it too
        server.stop()


def test_a_full_database_is_one_line_and_goes_on_when_there_is_room() -> None:
    """Nothing that was answered is lost, whether the server stays up or not."""
    with scratch() as folder, _small_disk(folder):
        server = Server(folder / "db")
        server.start()
        add(server, *(entry(number) for number in range(1, 101)))
        filler = folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(folder).free - 4096))
        done = []

        def fill() -> None:
            with worker(server) as jobs:
                while True:
                    lease = take(jobs)
                    jobs.finish(lease, 1, os.urandom(400_000).hex())
                    done.append(lease.name)

        with pytest.raises(QueueError) as caught:
            fill()
        assert "\n" not in str(caught.value)
        filler.unlink()
        server.stop()
        server.start()
        assert sorted(done) == sorted(
            job for job, is_in in states(server).items() if is_in == "done"
        )
        with worker(server) as jobs:
            jobs.enter({})
            jobs.finish(take(jobs), 1, "[1]")
        server.stop()


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "small", folder], check=True)
    try:
        folder.chmod(0o755)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
