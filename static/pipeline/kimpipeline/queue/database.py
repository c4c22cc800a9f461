"""A connection to the gateway's PostgreSQL: a fault is a QueueError, and no call waits for ever.

A box calls functions of the database and has no right on its tables; the functions are in
``static/onbox/usr/lib/gateway/schema``.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors, sql
from typing_extensions import Self

from kimpipeline.errors import LostError, MessageError, QueueError
from kimpipeline.settings import QueueSettings

SCHEMA = 5  # the oldest version of the schema that has all functions called here
_ANSWER = 40.0  # seconds for an answer; the database itself ends a call of a box after 30
_LOST, _WRONG = "PL001", "PL002"  # of the schema's own errors
# What a box that holds up others does to a call; the gateway ends that box's connection.
_HELD_UP = (errors.DeadlockDetected, errors.LockNotAvailable, errors.QueryCanceled)
_TRIES = 3


class Database:
    """A connection as a box; ``with`` closes it. After a QueueError it cannot be used any more.

    Threads may share it, but while one waits for news, the others wait too.
    """

    def __init__(self, settings: QueueSettings, channel: str) -> None:
        """Connect, and hear what is notified on ``channel`` from now on."""
        self._lock = threading.Lock()
        self._notified = False
        with _faults():
            self._connection = _connected(settings)
        try:
            ((version,),) = self.rows("version")
            if version < SCHEMA:
                raise QueueError(_OLD.format(f"schema {version}"))
            with self._lock, _faults():
                listen = sql.SQL("listen {}").format(sql.Identifier(channel))
                self._connection.execute(listen)
                # an operator sees who listens; not said while connecting, as a gateway drops that
                called = sql.SQL("set application_name = {}").format(sql.Literal(channel))
                self._connection.execute(called)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rows(self, function: str, *values: object) -> list[tuple[Any, ...]]:
        """Call a function of the schema; the rows that it returns.

        Raises:
            LostError: this box does not have the job, or the update, any more.
            MessageError: the database refused a value.
            QueueError: the connection is lost, or the database has no room.
        """
        places = sql.SQL(", ").join([sql.Placeholder()] * len(values))
        name = sql.Identifier("pipeline", function)
        call = sql.SQL("select * from {}({})").format(name, places)
        with _faults():
            for _ in range(_TRIES - 1):
                with suppress(*_HELD_UP):  # the database has undone all of it
                    return self._ask_once(call, values)
            return self._ask_once(call, values)

    def _ask_once(self, call: sql.Composed, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock, self._bounded():
            # else all that is notified meanwhile would be kept, however much it is
            self._connection.add_notify_handler(self._note)
            try:
                return self._connection.execute(call, values).fetchall()
            finally:
                self._connection.remove_notify_handler(self._note)

    def _note(self, _: psycopg.Notify) -> None:
        self._notified = True

    def call(self, function: str, *values: object) -> None:
        """Call a function of the schema that returns nothing; raises as ``rows`` does."""
        self.rows(function, *values)

    def wait(self, seconds: float) -> bool:
        """Wait for a notification; whether one came within ``seconds``."""
        with self._lock, _faults():
            if self._notified:
                self._notified = False
                return True
            return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """End the connection when an answer takes too long: libpq itself would wait for ever."""
        timer = threading.Timer(_ANSWER, self._hang_up)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)


def _connected(settings: QueueSettings) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect, and try again for ``reach`` seconds.

    At boot the tunnel may come a moment late; a restart of the service would take longer.
    """
    deadline = time.monotonic() + settings.reach
    while True:
        try:
            return psycopg.connect(
                host=settings.host,
                port=settings.port,
                user=settings.user,
                dbname="pipeline",
                connect_timeout=30,
                autocommit=True,
            )
        except psycopg.OperationalError:
            if time.monotonic() >= deadline:
                raise
        threading.Event().wait(0.2)


_OLD = "the gateway's database has {}, and this box needs a newer one: provision the gateway"
# What is said of an error, by the first characters of its SQLSTATE; the longest that fits.
_SAID = {
    "3D": _OLD.format("no pipeline"),
    "3F": _OLD.format("no schema"),
    "42883": _OLD.format("an older schema"),
    "42501": "the gateway lets this box not do that",
    "28": "the gateway does not know this box",
    "53": "the gateway's database has no room or no connection left",
    "57014": "the gateway's database was too slow",
}


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        code = error.sqlstate or ""
        line = " ".join(str(error).split("\n", maxsplit=1)[0].split()) or type(error).__name__
        if code == _LOST:
            raise LostError(line) from error
        if code == _WRONG or isinstance(error, (errors.DataError, errors.IntegrityError)):
            raise MessageError(f"the queue refuses it: {line}") from error
        known = [said for start, said in _SAID.items() if code.startswith(start)]
        raise QueueError(f"the queue: {': '.join([*known[-1:], line])}") from error
    except OSError as error:
        raise QueueError(f"the queue: {error}") from error
