"""Where the output goes: a terminal that obeys no host, or a reader that may have gone.

When nobody reads any more, as in ``inv --list | head``, we end without a message.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from deploys.errors import plain

_OUTPUTS = (1, 2)


class Terminal(Console):
    """A Console that prints plain text, in our own colours, whatever is in the words.

    It raises BrokenPipeError, as print does, when the reader is gone.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """A string of a table; made plain before its width is measured."""
        return super().render_str(plain(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain(text), style, control)

    def on_broken_pipe(self) -> None:
        raise  # rich calls this while it handles the BrokenPipeError


def install() -> None:
    """Make a BrokenPipeError on our own output end this process by SIGPIPE, without a message.

    SIGPIPE stays ignored otherwise, so that a broken connection to a host does not end us. Nor does
    a word that the terminal's encoding does not have.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError) and _is_closed():
            _end()
        before(kind, error, trace)

    sys.excepthook = hook
    # After this, Python flushes the buffer itself and would print that it failed.
    atexit.register(_flush)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end()


def _is_closed() -> bool:
    poll = select.poll()
    for output in _OUTPUTS:
        with contextlib.suppress(OSError):
            poll.register(output, 0)
    # Linux says the first, macOS and BSD the second.
    gone = select.POLLERR | select.POLLHUP
    return any(event & gone for _, event in poll.poll(0))


def _end() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
