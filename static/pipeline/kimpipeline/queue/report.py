"""The report of a service for the status page: whether it reaches the queue, how its jobs ended.

It is a file in the service's own folder, which systemd makes and removes. Its format is that of
``/usr/lib/status-page/reports.py``. Without that folder nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal

_LINES = 10


class Report(contextlib.AbstractContextManager["Report"]):
    """The report of one service since its start; a report that cannot be written is no fault."""

    def __init__(self) -> None:
        self._folder = os.environ.get("RUNTIME_DIRECTORY", "")
        self._content: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._log: deque[dict[str, int | str]] = deque(maxlen=_LINES)
        self.link("down")

    def __exit__(self, *_: object) -> None:
        self.link("down")

    def link(self, word: Literal["up", "down"]) -> None:
        """Report whether the service reaches the queue from now on."""
        self._content["queue"] = {"link": word, "since": int(time.time())}
        self._write()

    def job(self, *, failed: bool) -> None:
        """Report that a job has ended. Everybody may read that, so it does not say which or why."""
        line = {"time": int(time.time()), "event": "job failed" if failed else "job done"}
        with self._lock:  # the delivery thread reports jobs too
            jobs = self._content.setdefault("jobs", {"done": 0, "failed": 0})
            jobs["failed" if failed else "done"] += 1
            self._log.append(line)
            self._write()

    def _write(self) -> None:
        if not self._folder:
            return
        file = Path(self._folder, "report.json")
        part = file.with_name(".new")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps({**self._content, "log": list(self._log)}))
            part.replace(file)
