"""A real PostgreSQL on a Unix socket of the test's own, with the schema and some boxes."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from kimpipeline.files import remove
from kimpipeline.settings import QueueSettings

SCHEMA = Path(__file__).parents[3] / "static/onbox/usr/lib/gateway/schema"
WORKERS, DIRECTORS = ("w1", "w2"), ("d1", "d2")
PORT = 5432


def program(name: str) -> str:
    """The path of a server's program: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found, "postgresql is not installed"
    return str(found[-1])


def _as_postgres(*argv: str) -> list[str]:
    """The server refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *argv] if os.geteuid() == 0 else [*argv]


class Server:
    """A cluster in ``folder``: a short path, as its socket's has 107 characters at most."""

    def __init__(self, folder: Path, *options: str, empty: bool = False) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        _run("cp", "-a", str(_template(empty=empty)), str(self._data))

    def settings(self, user: str | None, **values: object) -> QueueSettings:
        """The settings of a box of this name."""
        there = {"host": str(self.folder), "port": PORT, "user": user, "reach": 0}
        return QueueSettings.model_validate({**there, **values})

    def start(self) -> None:
        """Start it on what it has, and wait until it answers."""
        where = [f"-cunix_socket_directories={self.folder}", "-clisten_addresses=", f"-p{PORT}"]
        argv = [program("postgres"), "-D", str(self._data), *where, *self._options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _as_postgres(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        ready = [program("pg_isready"), "-q", "-h", str(self.folder), "-p", str(PORT)]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    def kill(self) -> None:
        """End all its processes at once, as a power cut does."""
        if self._process is None:
            return
        postmaster = self._postmaster()
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for each in [postmaster, *map(int, children)]:
            os.kill(each, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it at once, and leave nothing of it in memory."""
        if self._process:
            os.kill(self._postmaster(), signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def _postmaster(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def sql(self, statement: str, *values: object, user: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as this role; its rows."""
        with self.connect(user) as connection:
            found = connection.execute(statement.encode(), values or None)
            return found.fetchall() if found.description else []

    def connect(self, user: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self.folder), port=PORT, user=user, dbname="pipeline", autocommit=True
        )


@cache
def _template(*, empty: bool) -> Path:
    """A cluster that is made once in a process of the tests, and copied for each of them."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/var/tmp"))
    atexit.register(remove, folder)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    words = [
        "--auth=trust",
        "-U",
        "postgres",
        "--locale=C",
        "-E",
        "UTF8",
        "--no-sync",
        "--wal-segsize=1",
    ]
    _run(*_as_postgres(program("initdb"), "-D", str(data), *words))
    single = [program("postgres"), "--single", "-j", "-D", str(data)]
    _run(*_as_postgres(*single, "postgres"), given="create database pipeline;\n\n")
    if not empty:
        boxes = [(name, "worker") for name in WORKERS] + [(name, "director") for name in DIRECTORS]
        boxes.append(("root", "worker"))  # as who a program of root's comes in
        made = "\n".join(
            f"select pipeline.add_box('{name}', 'ada', '{{{kind}}}');" for name, kind in boxes
        )
        for each in [*(file.read_text() for file in sorted(SCHEMA.glob("*.sql"))), made]:
            # with -j a command ends with a semicolon and an empty line: all of it is one
            lines = [line for line in f"begin;\n{each}\ncommit;".splitlines() if line.strip()]
            _run(*_as_postgres(*single, "pipeline"), given="\n".join(lines) + "\n\n")
    return data


def _run(*argv: str, given: str = "") -> None:
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr, done.stderr
