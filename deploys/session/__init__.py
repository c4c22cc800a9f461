"""Run deploys on one host. No other module makes a pyinfra State.

To work on several hosts at once, give each a Session in a thread of its own: pyinfra's context is
local to the greenlet, and so to the thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gevent
from pyinfra.api.config import Config
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, State, StateStage
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state

from deploys.errors import DeployError
from deploys.session.connector import RootShellConnector
from deploys.session.root_shell import RootShell

T = TypeVar("T")
Deploy = Callable[[], Any]

NONSENSE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What parsing raises when a host's words are not those that the command prints."""


@dataclass(frozen=True)
class Target:
    """The machine on which deploys run: a host, a chroot, or without both this machine.

    ``name`` is for error lines. ``shell`` is a root shell on a host; commands can be run in
    ``chroot``, the root of an image; ``environment`` has variables for every command.
    """

    name: str
    shell: RootShell | None = None
    chroot: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def inventory_name(self) -> str:
        """The name for pyinfra, which chooses the connector by it."""
        if self.chroot is not None:
            return f"@chroot/{self.chroot}"
        return self.name if self.shell else "@local"


@dataclass(frozen=True)
class PlannedOperation:
    """A prepared operation: its name, and whether it would change the host."""

    name: str
    changes: bool


class Observer(Protocol):
    """Gets each operation as it starts, with its number and how many the pass has."""

    def operation(self, name: str, number: int, total: int) -> None: ...


class Session:
    """One pass over one host: read facts, prepare operations, run them. Use it in a ``with``.

    If an operation fails, the host stays as the operation left it.
    """

    def __init__(self, target: Target, observer: Observer | None = None) -> None:
        self._target = target
        self._observer = observer
        self._stack = contextlib.ExitStack()
        self._words = _LastWords()

    def __enter__(self) -> Session:
        # Otherwise gevent prints a traceback at Ctrl-C before it passes it on.
        hub = gevent.get_hub()
        hub.NOT_ERROR = tuple({*hub.NOT_ERROR, KeyboardInterrupt})
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._words.captured())
            name = self._target.inventory_name
            inventory = Inventory(([(name, {"shell": self._target.shell})], {}))
            self._host: Host = inventory.get_host(name)
            if self._target.shell:
                self._host.connector_cls = RootShellConnector
            config = Config(ENV=dict(self._target.environment))
            self._state = State(inventory, config)
            self._state.set_stage(StateStage.Connect)
            with self._one_line("connecting"):
                self._host.connect(raise_exceptions=True)
            stack.callback(self._host.disconnect)
            self._state.activate_host(self._host)
            self._state.set_stage(StateStage.Prepare)
            for context, value in (
                (ctx_state, self._state),
                (ctx_inventory, inventory),
                (ctx_config, config),
                (ctx_host, self._host),
            ):
                stack.enter_context(context.use(value))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def fact(self, fact: type[FactBase[T]], **arguments: Any) -> T:
        """Read a fact from the host.

        Raises:
            DeployError: the host could not answer, or its answer makes no sense.
        """
        try:
            with self._one_line(f"reading {fact.__name__}"):
                value: T = self._host.get_fact(fact, **arguments)
        except NONSENSE as error:
            raise DeployError(
                f"{self._target.name}: its answer to {fact.__name__} makes no sense: {error}"
            ) from error
        return value

    def prepare(self, deploys: Sequence[Deploy]) -> tuple[PlannedOperation, ...]:
        """Prepare the operations of ``deploys``, and return them in order. Nothing is changed.

        An operation that needs another of the same pass sees the host as it is now, not as the
        other will leave it.

        Raises:
            DeployError: a fact could not be read.
        """
        with self._one_line("preparing"):
            for deploy in deploys:
                deploy()
        return tuple(
            PlannedOperation(self._name(op_hash), self._meta(op_hash).will_change)
            for op_hash in self._state.get_op_order()
        )

    def run(self) -> tuple[str, ...]:
        """Run the prepared operations, and return the names of those that changed the host.

        Raises:
            DeployError: an operation failed; the operations after it were not run.
        """
        order = self._state.get_op_order()
        self._state.add_callback_handler(_Watch(self._observer, order, self._name))
        self._state.set_stage(StateStage.Execute)
        with self._one_line("running"):
            run_ops(self._state)
        return tuple(self._name(op) for op in order if self._meta(op).did_change())

    def _name(self, op_hash: str) -> str:
        return ", ".join(sorted(self._state.get_op_meta(op_hash).names))

    def _meta(self, op_hash: str) -> Any:
        return self._state.get_op_data_for_host(self._host, op_hash).operation_meta

    @contextlib.contextmanager
    def _one_line(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PyinfraError as error:
            why = self._words.last() or str(error)
            for op_hash in filter(self._failed, self._state.get_op_order()):
                doing = self._name(op_hash)
                why = next((line for line in reversed(self._stderr(op_hash)) if line), why)
            raise DeployError(f"{self._target.name}: {doing}: {why}") from error

    def _failed(self, op_hash: str) -> bool:
        if op_hash not in self._state.ops[self._host]:
            return True  # it raised an error while it was prepared
        meta = self._meta(op_hash)
        return bool(meta.is_complete() and meta.did_error())

    def _stderr(self, op_hash: str) -> list[str]:
        if op_hash not in self._state.ops[self._host]:
            return []
        return [line.strip() for line in self._meta(op_hash).stderr_lines]


class _Watch(BaseStateCallback):
    """Passes pyinfra's callbacks on to the observer."""

    def __init__(
        self, observer: Observer | None, order: Sequence[str], name: Callable[[str], str]
    ) -> None:
        self._observer = observer
        self._order = list(order)
        self._name = name

    def operation_host_start(self, _state: State, _host: Host, op_hash: str) -> None:  # type: ignore[override]
        # A nested operation is not in the order; the observer got the outer one.
        if self._observer and op_hash in self._order:
            number = self._order.index(op_hash) + 1
            self._observer.operation(self._name(op_hash), number, len(self._order))


class _LastWords(logging.Handler):
    """Keeps what pyinfra logs as errors in this thread: the output of a failed command."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._thread = threading.get_ident()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(record.getMessage().strip())

    def last(self) -> str | None:
        """The last line that a command printed; pyinfra's own lines do not count."""
        for line in reversed(self._lines):
            text = line.partition("] ")[2] if line.startswith("[") else line
            if text and not text.startswith(("Error: executed", "Error executing")):
                return text.strip().splitlines()[-1]
        return None

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        logger = logging.getLogger("pyinfra")
        logger.propagate = False  # otherwise Python prints them to stderr by itself
        self._thread = threading.get_ident()
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
