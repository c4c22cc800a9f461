"""A gateway's queue and its results: submit an update, read the tubes, list the results."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import greenstalk
import kim_edn
from pydantic import TypeAdapter, ValidationError

from deploys.errors import BoxError, UnreachableError, one_line
from deploys.services.runner import DIRECTOR
from deploys.session import NONSENSE
from deploys.settings import QUEUE_PORT
from kimpipeline.kim.kimid import MODELS, JobId, code, kind
from kimpipeline.queue.messages import ERRORS, JOBS, RESULTS, UPDATES, Update
from kimpipeline.settings import Folders
from tasks.hosts.connection import Host

_TUBES = (UPDATES, JOBS, RESULTS, ERRORS)
_ITEMS, _RESULTS = "/srv/pipeline/items", "/srv/pipeline/results"
_MAX_BYTES = 65536  # of a file of metadata
_MAX_RESULT = 2**20
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp() - 1

# The names that a result has: its owner's and its job's. Others are not listed.
_PLACE = (
    r"\./[a-z_][a-z0-9_-]{0,31}"
    r"/(TE|VC)_[0-9]{12}_[0-9]{3}-and-(MO|SM)_[0-9]{12}_[0-9]{3}-[0-9a-f]{12}"
)
_JOB = TypeAdapter[str](JobId)

# A line for each of the newest results: time, path, and its two files of metadata. A worker wrote
# these: base64 makes sure that each stays one word.
_LIST_RESULTS = """cd {results} && export LC_ALL=C &&
    find . -mindepth 3 -maxdepth 3 -type f -regextype posix-extended \\
        -regex '{place}/kimspec[.]edn' -printf '%T@ %P\\n' |
    sort -rn | head -n {most} | while read -r when path; do
        printf '%s %s' "$when" "${{path%/*}}"
        for f in kimspec pipelinespec; do
            printf ' %s' "$(head -c {bytes} "${{path%/*}}/$f.edn" 2>/dev/null | base64 -w 0)"
        done
        echo
    done"""

# Three numbers: whether there is such an item; whether a director runs here whose KIM API has no
# Model of that name, and that cannot build it; how many jobs of it have results.
_ABOUT_ITEM = """export LC_ALL=C
    [ -d {items}/{item} ] && echo 1 || echo 0
    systemctl --quiet is-enabled {director} && [ -z "$(ls -d {models} 2>/dev/null)" ] &&
        {{ [ ! -f {items}/{item}/CMakeLists.txt ] || ! command -v cmake >/dev/null; }} &&
        echo 1 || echo 0
    cd {results} && find . -mindepth 2 -maxdepth 2 -type d -regextype posix-extended \\
        -regex '{place}' -name '*{code}*' -printf '%f\\n' | sort -u | wc -l"""

# A line for each owner who has a result of the job: the name, and the result.
_READ_RESULT = """cd {results} && export LC_ALL=C && for folder in [a-z_]*/{job}; do
        [ -f "$folder/results.edn" ] || continue
        text=$(head -c {bytes} "$folder/results.edn" | base64 -w 0)
        printf '%s %s\\n' "${{folder%%/*}}" "$text"
    done"""


@dataclass(frozen=True)
class Tube:
    """A tube of the queue.

    ``counts`` are its messages that are ready, reserved, delayed and buried; ``watching`` its
    clients; ``total`` all messages it ever had; ``rate`` the messages done in a minute.
    """

    name: str
    counts: tuple[int, ...] = (0, 0, 0, 0)
    watching: int = 0
    total: int = 0
    rate: float | None = None


@dataclass(frozen=True)
class JobResult:
    """A job's result on a gateway.

    ``when`` is in seconds since 1970; ``fault`` is empty if the job succeeded.
    """

    when: float
    owner: str
    job: str
    test: str
    model: str
    fault: str
    manifest: str


@contextlib.contextmanager
def connected(host: Host) -> Iterator[greenstalk.Client[str]]:
    """Connect to a gateway's queue, through the SSH connection.

    Raises:
        UnreachableError: the queue does not answer, or answers with an error.
    """
    try:
        with (
            host.forwarded(QUEUE_PORT) as end,
            contextlib.closing(greenstalk.Client(end, encoding="utf-8")) as client,
        ):
            yield client
    except greenstalk.Error as error:
        raise UnreachableError(f"{host.name}: the queue: {type(error).__name__}") from error
    except (OSError, *NONSENSE) as error:  # greenstalk raises several for half an answer
        raise UnreachableError(f"{host.name}: the queue does not answer") from error


def update(item: str, priority: int, status: str) -> Update:
    """Make the message that has all pairs of an item run.

    Raises:
        BoxError: a value is wrong.
    """
    try:
        values = {"kimid": item, "priority": priority, "status": status}
        return Update.model_validate(values)
    except ValidationError as error:
        raise BoxError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def submit(host: Host, update: Update) -> int:
    """Put an update on a gateway's queue.

    Returns how many results the gateway has of the item with any Model or Test: their pairs run
    again only in other versions.

    Raises:
        BoxError: the gateway has no such item, its own director cannot run this Model, or its queue
            does not answer.
    """
    item = update.kimid
    command = _ABOUT_ITEM.format(
        items=_ITEMS,
        item=item,
        director=DIRECTOR,
        models=" ".join(f"{folder}/{item}" for folder in Folders().models),
        results=_RESULTS,
        place=_PLACE,
        code=code(item),
    )
    with host.parsing("what it has of the item"):
        has_item, lacks_model, done = map(int, host.run(command).split())
    if not has_item:
        raise BoxError(f"{host.name} has no item {item} in {_ITEMS}")
    if lacks_model and kind(item) in MODELS:
        raise BoxError(
            f"{host.name} makes jobs, and its KIM API has no Model {item}: install it there first"
        )
    with connected(host) as client:
        client.use(UPDATES)
        client.put(update.model_dump_json(), priority=update.priority)
    return done


def tube_reader(client: greenstalk.Client[str]) -> Callable[[], list[Tube]]:
    """Return a function that reads all tubes, and the rates since its last call."""
    before: dict[str, tuple[float, int]] = {}

    def read() -> list[Tube]:
        found = []
        for name in _TUBES:
            try:
                stats: dict[str, object] = {**client.stats_tube(name)}
            except greenstalk.NotFoundError:
                found.append(Tube(name))
                continue
            now, ended = time.monotonic(), _number(stats, "cmd-delete")
            then, earlier = before.get(name, (now, ended))
            before[name] = now, ended
            rate = 60 * (ended - earlier) / (now - then) if now > then else None
            states = ("ready", "reserved", "delayed", "buried")
            counts = tuple(_number(stats, f"current-jobs-{state}") for state in states)
            watching, total = (_number(stats, each) for each in ("current-watching", "total-jobs"))
            found.append(Tube(name, counts, watching, total, rate))
        return found

    return read


def _number(stats: dict[str, object], name: str) -> int:
    return int(str(stats[name]))


def newest_results(host: Host, most: int) -> list[JobResult]:
    """List at most ``most`` results on a gateway, the newest first."""
    command = _LIST_RESULTS.format(
        results=_RESULTS, place=_PLACE, most=max(1, most), bytes=_MAX_BYTES
    )
    lines = host.run(command).splitlines()
    with host.parsing("its results"):
        return [_parse_result(line) for line in lines]


def read_result(host: Host, job: str) -> list[tuple[str, str]]:
    """Read the results.edn that each owner's boxes delivered of a job: the owner, and the text.

    Raises:
        BoxError: that is no job's id, or the gateway has no results of this job.
    """
    try:
        _JOB.validate_python(job)
    except ValidationError as error:
        raise BoxError(f"{job!r} is no id of a job: pipeline.results lists them") from error
    command = _READ_RESULT.format(results=_RESULTS, job=job, bytes=_MAX_RESULT)
    lines = host.run(command).splitlines()
    with host.parsing("the job's results"):
        rows = (line.split(" ") for line in lines)
        found = [
            (one_line(owner), base64.b64decode(text).decode(errors="replace"))
            for owner, text in rows
        ]
    if not found:
        raise BoxError(f"{host.name} has no results of {job}")
    return found


def _parse_result(line: str) -> JobResult:
    """Parse a line of the listing; metadata that cannot be parsed counts as empty."""
    when, place, *files = line.split(" ")
    owner, _, job = place.partition("/")
    _JOB.validate_python(job)
    about, made = (_edn(files[number] if number < len(files) else "") for number in (0, 1))
    come = made.get("provenance")
    manifest = str(come.get("manifest", "")) if isinstance(come, dict) else ""
    names = [str(about.get(name, "")) for name in ("test", "model", "error")]
    # A box sets the time of a file that it sends: there may be no such date.
    return JobResult(
        min(abs(float(when)), _LATEST), owner, job, names[0], names[1], names[2], manifest
    )


def _edn(text: str) -> dict[str, object]:
    try:
        content = kim_edn.loads(base64.b64decode(text).decode())
    except NONSENSE:
        return {}
    return content if isinstance(content, dict) else {}
