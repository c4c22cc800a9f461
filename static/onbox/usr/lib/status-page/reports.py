"""Reads the reports that the services of a box write for its status page. It does not trust them.

A report is ``/run/pipeline/status.d/NAME.json``, or ``NAME/ANY.json`` if the service has the folder
NAME there as its ``RuntimeDirectory``; such a report goes away with its service. A report is a JSON
object; each field may be missing:

    queue          {"link": "up" or "down", "since": TIME}
    jobs           {"done": COUNT, "failed": COUNT}, of this boot; reports are added up
    log            [{"time": TIME, "event": "job done" or "job failed"}, ...]
    valid_seconds  how long the report is valid after it was written; default: until it is removed

A TIME is in whole seconds since 1970. Write a report under another name, then rename it. The reader
is root and the writers need not be: it follows no link and reads only regular files. A report that
does not have exactly this form is left out whole, and the page says how many are. It has no words
of its writer's own, as everybody may read the page: these belong in the journal.
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

EVENTS = {"job done": "info", "job failed": "warning"}
"""What a line of a log may say, each with its level."""
SIZE_LIMIT = 16384  # bytes of a report
COUNT_LIMIT = 512  # files read in a folder; each CPU's worker has one
LINES_LIMIT = 50  # in the log of one report
_NUMBER_LIMIT = 2**53 - 1  # JavaScript's largest exact integer
_DAYS = 86400 * 7
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: do not wait for the other end of a pipe.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class RefusedError(ValueError):
    """Why a report is left out, in words that repeat nothing of its content."""


@dataclass(frozen=True)
class Line:
    """A line of the log that the page shows."""

    time: int
    level: str
    text: str


@dataclass(frozen=True)
class Report:
    """The content of one file; a missing field is None."""

    link: str | None = None
    since: int | None = None
    done: int | None = None
    failed: int | None = None
    log: tuple[Line, ...] = ()


def read_all(folder: Path, now: float) -> tuple[list[Report], list[str]]:
    """The reports below ``folder`` that are valid at ``now``, and a line on each refused one."""
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
        for prefix, place in places:  # the loop appends the folders of the first
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
    """Open a file or folder; None if it is missing or of another kind."""
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
        fields = _object(item, "a line of the log", "time", "event")
        time, event = _number(fields, "time"), _word(fields, "event", tuple(EVENTS))
        if time is None or event is None:
            raise RefusedError("has a line of the log without time or event")
        yield Line(time, EVENTS[event], event)


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
    # type(), as isinstance(True, int) is true
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
