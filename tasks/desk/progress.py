"""Show progress: one bar for each host, or plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable, Iterator

from invoke.exceptions import Exit
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn
from rich.table import Column

from deploys.errors import BoxError
from tasks.desk.closed_pipe import Terminal

# Standard output is for results: tables, JSON.
console = Terminal(stderr=True)

STATES = ("at work", "waiting", "done", "failed")
"""The states of a host; where there is no room for all bars, the hosts in each are counted."""


class Bars(Progress):
    """The bars of all hosts, or, where not all fit on the terminal, of those at work or failed."""

    def get_renderables(self) -> Iterable[RenderableType]:
        room = console.height - 1
        if len(self.tasks) <= room:
            yield self.make_tasks_table(self.tasks)
            return
        by_state = {state: [*self._of(state)] for state in STATES}
        counts = (f"{len(tasks)} {state}" for state, tasks in by_state.items())
        yield f"[bold]{len(self.tasks)} hosts:[/] {', '.join(counts)}"
        # When no host is at work any more, the report says how each ended.
        if by_state["at work"]:
            shown = [*by_state["at work"], *reversed(by_state["failed"])]
            yield self.make_tasks_table(shown[: room - 1])

    def _of(self, state: str) -> Iterator[Task]:
        return (task for task in self.tasks if task.fields["state"] == state)


def bars() -> Bars:
    """Make the frame for the bars; use it in a ``with`` statement."""
    return Bars(
        TextColumn(
            "{task.fields[host]}",
            style="bold",
            markup=False,
            table_column=Column(no_wrap=True, max_width=30),
        ),
        BarColumn(table_column=Column(width=10)),
        TextColumn("{task.fields[count]}", table_column=Column(min_width=5, justify="right")),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        # only this column is cut when the line is too long
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
        expand=True,
        console=console,
        disable=not console.is_terminal,
    )


class HostProgress:
    """The bar of one host: its step and the operation within that step."""

    def __init__(self, name: str, frame: Progress) -> None:
        self._name = name
        self._frame = frame
        self._began = time.monotonic()
        self._step = ""
        frame.add_task("waiting", host=name, count="", state="waiting", total=None)
        self._task = frame.tasks[-1]

    def step(self, name: str) -> None:
        """Show that the host enters a step, as ``booting into maintenance``."""
        self._step = name
        self._show(name, "", 0, None)
        self._log(name)

    def operation(self, name: str, number: int, total: int) -> None:
        """Show that operation ``number`` of ``total`` in this step starts."""
        self._show(f"{self._step}: {name}", f"{number}/{total}", number - 1, total)
        self._log(f"{self._step} ({number}/{total}): {name}")

    def amount(self, percent: float) -> None:
        """Show how much of this step is done."""
        self._show(self._step, f"{percent:3.0f} %", percent, 100)

    def done(self, word: str) -> None:
        """Show that the work on the host has ended, as ``done`` or ``failed``."""
        self._show(word, "", 1, 1, "failed" if word == "failed" else "done")
        self._log(word)

    def _show(
        self, text: str, count: str, completed: float, total: float | None, state: str = "at work"
    ) -> None:
        # update() alone leaves a bar that was full with its old total and a stopped clock.
        self._task.total, self._task.finished_time = total, None
        self._frame.update(
            self._task.id, description=text, count=count, completed=completed, state=state
        )

    def _log(self, text: str) -> None:
        if not console.is_terminal:
            seconds = time.monotonic() - self._began
            line = escape(f"{self._name} {seconds:6.1f} s  {text}")
            console.print(line, highlight=False, soft_wrap=True)


class InterruptibleProgress(HostProgress):
    """Progress that raises KeyboardInterrupt at the next step when a Ctrl-C was lost.

    Python drops an exception that a signal raises during a fork, and a build forks often.
    """

    def __init__(self, name: str, frame: Progress) -> None:
        super().__init__(name, frame)
        self._interrupted = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Record each Ctrl-C in this block, unless the parent process had SIGINT ignored."""
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def step(self, name: str) -> None:
        self._check()
        super().step(name)

    def operation(self, name: str, number: int, total: int) -> None:
        self._check()
        super().operation(name, number, total)

    def _notice(self, _signal: int, _frame: object) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _check(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt


class exit_on_error:  # noqa: N801 - a context manager, used like one of contextlib's
    """Turns a BoxError into Invoke's Exit: one line on standard error, exit code 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, BoxError):
            raise Exit(f"error: {error}", code=1) from error


@contextlib.contextmanager
def exit_on_interrupt(state: str) -> Iterator[None]:
    """Turn Ctrl-C into Invoke's Exit: a line that says in which ``state`` all is left, code 130."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Exit(f"interrupted: {state}", code=130) from interrupt


@contextlib.contextmanager
def working(name: str, interrupted: str) -> Iterator[InterruptibleProgress]:
    """The progress of work on this machine, under ``name``.

    Raises:
        Exit: the work failed, or Ctrl-C ended it: see ``exit_on_interrupt``.
    """
    with exit_on_error(), exit_on_interrupt(interrupted), bars() as frame:
        progress = InterruptibleProgress(name, frame)
        with progress.listening():
            yield progress
