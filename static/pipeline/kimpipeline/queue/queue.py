"""A connection to beanstalkd by greenstalk: a fault is a QueueError, and no call waits for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import greenstalk

from kimpipeline.errors import LostError, MessageError, QueueError
from kimpipeline.queue.messages import Message
from kimpipeline.settings import QueueSettings

_ANSWER = 30.0  # seconds for an answer, beside those that a call waits for a message
DEFAULT_PRIORITY = 2**16


@dataclass(frozen=True)
class Reserved:
    """A message that this connection has reserved.

    ``deaths`` counts the workers that lost it before, ``buries`` how often it was buried.
    """

    handle: greenstalk.Job[bytes]
    tube: str
    priority: int
    deaths: int
    buries: int

    @property
    def id(self) -> int:
        return self.handle.id

    @property
    def body(self) -> bytes:
        return self.handle.body


class Queue(AbstractContextManager["Queue"]):
    """A connection to the queue; ``with`` closes it. After a QueueError it cannot be used any more.

    Threads may share it, but while one waits for a message, the others wait too.
    """

    def __init__(self, settings: QueueSettings, *watch: str) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        with _faults():
            sock = _connection(settings)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client = greenstalk.Client(sock, encoding=None, watch=watch or "default")

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def put(self, tube: str, message: Message, priority: int = DEFAULT_PRIORITY) -> None:
        """Put a message on a tube.

        Raises:
            MessageError: it is too long.
            QueueError: the queue refused it.
        """
        body = message.model_dump_json().encode()
        if len(body) > self._settings.largest:
            raise MessageError(f"a message of {len(body)} bytes; {self._settings.largest} at most")
        with self._lock, _faults():
            self._client.use(tube)
            self._client.put(body, priority=priority, ttr=self._settings.ttr)

    def newest(self) -> int:
        """The newest id that the queue has given: puts and deletes an empty message to learn it."""
        with self._lock, _faults():
            self._client.use("newest")
            identifier = int(self._client.put(b"", priority=DEFAULT_PRIORITY))
            self._client.delete(identifier)
            return identifier

    def peek(self, identifier: int) -> bytes | None:
        """The body of a message in any state, reserved and buried too; None if it is gone."""
        with self._lock, _faults():
            try:
                return bytes(self._client.peek(identifier).body)
            except greenstalk.NotFoundError:
                return None

    def reserve(self, timeout: float) -> Reserved | None:
        """The next message of the watched tubes; None if none comes within ``timeout`` seconds."""
        with self._lock, _faults():
            try:
                job = self._client.reserve(timeout=int(timeout))
            except (greenstalk.TimedOutError, greenstalk.DeadlineSoonError):
                return None
            try:
                stats = self._client.stats_job(job)
            except greenstalk.NotFoundError:
                return None  # its time to run has already passed
        # a lost connection and a passed time to run leave no other trace
        deaths = stats["reserves"] - 1 - stats["releases"] - stats["buries"]
        return Reserved(job, stats["tube"], stats["pri"], deaths, stats["buries"])

    def touch(self, reserved: Reserved) -> None:
        """Let the message's time to run begin anew.

        Raises:
            LostError: this connection does not have it any more.
        """
        with self._lock, _faults(lost=True):
            self._client.touch(reserved.handle)

    def delete(self, reserved: Reserved) -> None:
        with self._lock, _faults(lost=True):
            self._client.delete(reserved.handle)

    def release(self, reserved: Reserved, delay: int = 0) -> None:
        """Give the message back; any worker may take it after ``delay`` seconds."""
        with self._lock, _faults(lost=True):
            self._client.release(reserved.handle, priority=reserved.priority, delay=delay)

    def bury(self, reserved: Reserved) -> None:
        """Set the message aside until an operator kicks it."""
        with self._lock, _faults(lost=True):
            self._client.bury(reserved.handle, priority=reserved.priority)


def _connection(settings: QueueSettings) -> socket.socket:
    """Connect, and try again for ``reach`` seconds.

    At boot the tunnel may come a moment late; a restart of the service would take longer.
    """
    deadline = time.monotonic() + settings.reach
    while True:
        try:
            return socket.create_connection((settings.host, settings.port), timeout=_ANSWER)
        except OSError:
            if time.monotonic() >= deadline:
                raise
        threading.Event().wait(0.2)


@contextmanager
def _faults(*, lost: bool = False) -> Iterator[None]:
    try:
        yield
    except greenstalk.NotFoundError as error:
        if lost:
            raise LostError("a job's time to run passed without a sign of life") from error
        raise QueueError("the queue has no such job") from error
    except greenstalk.JobTooBigError as error:
        raise MessageError("the queue takes no message as long as this one") from error
    except greenstalk.Error as error:
        raise QueueError(f"the queue: {type(error).__name__} {error}".rstrip()) from error
    except (OSError, ValueError, IndexError) as error:  # greenstalk raises these for half an answer
        raise QueueError(f"the queue: {error or type(error).__name__}") from error
