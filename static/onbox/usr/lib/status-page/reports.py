"""What the parts of a box report of themselves, for its status page: files that nobody vouches for.

A report is ``/run/pipeline/status.d/NAME.json``, or ``NAME/ANY.json`` in a folder that a service
which is not root has there as its ``RuntimeDirectory``: it goes when the service does. It is a JSON
object; each of its fields may be missing:

    queue          {"link": "up" or "down", "since": TIME}
    jobs           {"done": COUNT, "failed": COUNT}, of this boot; of several reports the sum
    log            [{"time": TIME, "level": "info", "warning" or "error", "text": TEXT}, ...]
    valid_seconds  how long after it was written the report holds; else until it is gone

A TIME is in whole seconds since 1970. A report is to be written beside its name and then renamed.
The reader is root and the writers need not be: no link is followed, nothing but a regular file is
read, and what is not exactly of this form is left out whole, of which the page then tells.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from redaction import printable

LEVELS = ("info", "warning", "error")
SIZE_LIMIT = 16384  # bytes of a report
COUNT_LIMIT = 512  # files that are looked at in a folder; a worker for each CPU has one
LINES_LIMIT = 50  # of the log of one report
_NUMBER_LIMIT = 2**53 - 1  # what JavaScript counts to
_DAYS = 86400 * 7
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for the other end of a pipe that lies there.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class RefusedError(ValueError):
    """Why a report is not taken, in words that hold nothing of what is in it."""


@dataclass(frozen=True)
class Line:
    """A line of the log that is shown."""

    time: int
    level: str
    text: str


@dataclass(frozen=True)
class Report:
    """What one file says; a field that it has not is None."""

    link: str | None = None
    since: int | None = None
    done: int | None = None
    failed: int | None = None
    log: tuple[Line, ...] = ()


def read_all(folder: Path, now: float) -> tuple[list[Report], list[str]]:
    """The reports below ``folder`` that hold at ``now``, and a sentence on each that is refused."""
    reports: list[Report] = []
    faults: list[str] = []
    for name, file in _files(folder, faults):
        try:
            reports.append(_read(file, now))
        except RefusedError as refused:
            faults.append(f"the report {name} {refused}")
        finally:
            os.close(file)
    return reports, faults


def _files(folder: Path, faults: list[str]) -> Iterator[tuple[str, int]]:
    """The name and an open descriptor of each report, which the caller closes."""
    with contextlib.ExitStack() as stack:
        top = _open(str(folder), _FOLDER, None)
        if top is None:
            return
        stack.callback(os.close, top)
        places = [("", top)]
        for prefix, place in places:  # grows by the folders of the first
            with os.scandir(place) as entries:
                names = [entry.name for entry in itertools.islice(entries, COUNT_LIMIT + 1)]
            if len(names) > COUNT_LIMIT:
                place_name = prefix.rstrip("/") or folder.name
                faults.append(
                    f"{place_name} holds more than {COUNT_LIMIT} reports: not all are read"
                )
            for entry in sorted(names[:COUNT_LIMIT]):
                stem, dot, ending = entry.partition(".")
                if not _NAME.fullmatch(stem):
                    continue
                if not dot and not prefix:
                    inner = _open(entry, _FOLDER, place)
                    if inner is not None:
                        stack.callback(os.close, inner)
                        places.append((f"{stem}/", inner))
                elif ending == "json":
                    file = _open(entry, _FILE, place)
                    if file is not None:
                        yield f"{prefix}{stem}", file


def _open(path: str, flags: int, place: int | None) -> int | None:
    """None for what is not there, or no longer, or of another kind."""
    try:
        return os.open(path, flags, dir_fd=place)
    except OSError:
        return None


def _read(file: int, now: float) -> Report:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        raise RefusedError("is no regular file")
    content = os.read(file, SIZE_LIMIT + 1)
    if len(content) > SIZE_LIMIT:
        raise RefusedError(f"is larger than {SIZE_LIMIT} bytes")
    try:
        value = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RefusedError("is not JSON") from error
    fields = _object(value, "the whole", "queue", "jobs", "log", "valid_seconds")
    seconds = _number(fields, "valid_seconds", _DAYS)
    if seconds is not None and about.st_mtime + seconds < now:
        raise RefusedError("is out of date")
    queue = _object(fields.get("queue"), "queue", "link", "since")
    jobs = _object(fields.get("jobs"), "jobs", "done", "failed")
    return Report(
        link=_word(queue, "link", ("up", "down")),
        since=_number(queue, "since"),
        done=_number(jobs, "done"),
        failed=_number(jobs, "failed"),
        log=tuple(_lines(fields.get("log"))),
    )


def _lines(value: object) -> Iterator[Line]:
    if value is None:
        return
    if not isinstance(value, list) or len(value) > LINES_LIMIT:
        raise RefusedError(f"has a log that is no list of at most {LINES_LIMIT}")
    for item in value:
        fields = _object(item, "a line of the log", "time", "level", "text")
        time, level = _number(fields, "time"), _word(fields, "level", LEVELS)
        text = fields.get("text")
        if time is None or level is None or not isinstance(text, str):
            raise RefusedError("has a line of the log without time, level or text")
        yield Line(time, level, printable(text))


def _object(value: object, what: str, *names: str) -> dict[str, Any]:
    if value is None and what != "the whole":
        return {}
    if not isinstance(value, dict):
        raise RefusedError(f"is malformed: {what} is no object")
    if not set(value) <= set(names):
        raise RefusedError(f"is malformed: {what} has a field that is not known")
    return value


def _number(fields: dict[str, Any], name: str, limit: int = _NUMBER_LIMIT) -> int | None:
    value = fields.get(name)
    # type: to Python, true is a number
    if value is not None and (type(value) is not int or not 0 <= value <= limit):
        raise RefusedError(f"is malformed: {name} is no number from 0 to {limit}")
    return value


def _word(fields: dict[str, Any], name: str, words: tuple[str, ...]) -> str | None:
    value = fields.get(name)
    if value is not None and value not in words:
        raise RefusedError(f"is malformed: {name} is none of {', '.join(words)}")
    return value


def _no_number(_constant: str) -> NoReturn:
    raise ValueError
