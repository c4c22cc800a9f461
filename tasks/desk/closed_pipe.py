"""End without a message when nobody reads the output any more, as in ``inv --list | head``."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
from types import TracebackType

from rich.console import Console

_OUTPUTS = (1, 2)


class Terminal(Console):
    """A Console that raises BrokenPipeError, as print does, when the reader is gone."""

    def on_broken_pipe(self) -> None:
        raise  # rich calls this while it handles the BrokenPipeError


def install() -> None:
    """Make a BrokenPipeError on our own output end this process by SIGPIPE, without a message.

    SIGPIPE stays ignored otherwise, so that a broken connection to a host does not end us.
    """
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
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _end() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
