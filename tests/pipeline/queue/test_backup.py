"""A dump of the database, as a gateway's backup takes it, and the database that is made of it."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import psycopg

from tests.pipeline.queue.boxes import add, entry, name, states, take, worker
from tests.pipeline.queue.server import PORT, SCHEMA, Server
from tests.pipeline.queue.test_hostile_box import FORBIDDEN


def _run(server: Server, *words: str, given: bytes = b"") -> bytes:
    where = ["-h", str(server.folder), "-p", str(PORT), "-U", "postgres"]
    done = subprocess.run([*words, *where], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_what_was_dumped_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    """Jobs, leases and results; and a box may do no more than before."""
    add(server, entry(1), entry(2, 1), entry(3))
    with worker(server) as jobs:
        jobs.finish(take(jobs), 1, "[1]")
        lease = take(jobs)
        dump = _run(server, "pg_dump", "--format=custom", "pipeline")
        jobs.finish(lease, 1, "[2]")
    before = states(server)
    _run(server, "dropdb", "--force", "pipeline")
    listed = _run(server, "pg_restore", "--list", "--create", given=dump).decode().splitlines()
    chosen = [line for line in listed if " ACL pg_catalog " not in line]
    assert len(chosen) < len(listed)
    (tmp_path / "list").write_text("\n".join(chosen))
    use = ("--use-list", str(tmp_path / "list"))
    _run(server, "pg_restore", "--exit-on-error", "--create", "-d", "postgres", *use, given=dump)
    server.sql((SCHEMA / "restrictions.sql").read_text())
    assert states(server) == {**before, lease.name: "running"}
    with worker(server) as jobs:
        jobs.finish(lease, 1, "[2]")
        assert take(jobs).name == ({name(2), name(3)} - {lease.name}).pop()
    with server.connect("w1") as hostile, server.connect("w2"):
        allowed = []
        for statement in FORBIDDEN:
            with contextlib.suppress(psycopg.Error):
                hostile.execute(statement.encode())
                allowed.append(statement)
            hostile.rollback()
    assert allowed == []
