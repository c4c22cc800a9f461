"""Output that nobody reads any more, as of ``inv --list | head``: ended as other tools end."""

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
    """A Console whose writes fail as all others do when their reader is gone."""

    def on_broken_pipe(self) -> None:
        raise  # what rich caught when it called this


def install() -> None:
    """From now on, when the reader of the output is gone, end by SIGPIPE without a word.

    Until then SIGPIPE stays ignored: a host whose connection breaks ends nothing but its own line.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError) and _is_closed():
            _end()
        before(kind, error, trace)

    sys.excepthook = hook
    # Python writes what is left in the buffer after this, and would say that it cannot.
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
