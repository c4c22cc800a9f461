"""A gateway's queue and its results: submit an update, look at the queue, list the results."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import kim_edn
from pydantic import BaseModel, TypeAdapter, ValidationError

from deploys.errors import BoxError, one_line
from deploys.services.runner import DIRECTOR
from deploys.session import NONSENSE
from kimpipeline.kim.kimid import MODELS, JobId, code, kind
from kimpipeline.queue.messages import Update
from kimpipeline.settings import Folders
from tasks.hosts.connection import Host

# Root of a gateway is its database's operator by being the user postgres.
_PSQL = "cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d pipeline"
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


class Running(BaseModel):
    """A job that somebody has, for so many seconds."""

    job: str
    box: str
    worker: str
    seconds: float


class Stuck(BaseModel):
    """A job that waits for another, which has failed or was cancelled."""

    job: str
    needs: str
    state: str


class FailedUpdate(BaseModel):
    kimid: str
    why: str


class Overview(BaseModel):
    """A gateway's queue at one moment; ``minute`` counts how the jobs of the last minute ended."""

    jobs: dict[str, int]
    updates: dict[str, int]
    workers: int
    directors: int
    running: list[Running]
    minute: dict[str, int]
    failed_updates: list[FailedUpdate]
    stuck: list[Stuck]
    alarms: int


class Attempt(BaseModel):
    """One run of a job: by whom, when, and how it ended; None while it has not."""

    attempt: int
    box: str
    worker: str
    taken: datetime
    ended: datetime | None
    how: str | None
    seconds: float | None
    reason: str | None
    log: str | None


@dataclass(frozen=True)
class JobResult:
    """A job's result on a gateway; ``fault`` is empty if the job succeeded."""

    when: datetime
    owner: str
    job: str
    test: str
    model: str
    fault: str
    manifest: str


@dataclass(frozen=True)
class OwnerResult:
    """What an owner's boxes delivered of a job: its results.edn."""

    owner: str
    results: str


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
    values = f"{_text(item)}, {update.priority}, {_text(update.status)}"
    _ask(host, f"select pipeline.submit({values})")
    return done


def overview(host: Host) -> Overview:
    """A gateway's queue now."""
    text = _ask(host, "select pipeline.overview()")
    with host.parsing("its queue"):
        return Overview.model_validate_json(text)


def attempts(host: Host, job: str) -> list[Attempt]:
    """All runs of a job, the first one first.

    Raises:
        BoxError: that is no job's id, or no worker has ever had this job.
    """
    text = _ask(host, f"select pipeline.attempts_of({_text(_job(job))})")
    with host.parsing("the job's attempts"):
        found = TypeAdapter(list[Attempt]).validate_json(text)
    if not found:
        raise BoxError(f"no worker of {host.name} has had {job}")
    return found


def retry(host: Host, jobs: Sequence[str]) -> int:
    """Have these jobs run again, or without any all that failed; how many do."""
    return int(_ask(host, f"select pipeline.retry({_array(jobs) if jobs else 'null'})"))


def cancel(host: Host, jobs: Sequence[str]) -> int:
    """End these jobs; how many had not ended."""
    return int(_ask(host, f"select pipeline.cancel({_array(jobs)})"))


def _ask(host: Host, statement: str) -> str:
    return host.run(_PSQL, stdin=f"{statement};\n".encode()).strip()


def _array(jobs: Sequence[str]) -> str:
    return f"array[{', '.join(_text(_job(job)) for job in jobs)}]::text[]"


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _job(text: str) -> str:
    try:
        return _JOB.validate_python(text)
    except ValidationError as error:
        raise BoxError(f"{text!r} is no id of a job: pipeline.results lists them") from error


def newest_results(host: Host, most: int) -> list[JobResult]:
    """List at most ``most`` results on a gateway, the newest first."""
    command = _LIST_RESULTS.format(
        results=_RESULTS, place=_PLACE, most=max(1, most), bytes=_MAX_BYTES
    )
    lines = host.run(command).splitlines()
    with host.parsing("its results"):
        return [_parse_result(line) for line in lines]


def read_result(host: Host, job: str) -> list[OwnerResult]:
    """Read what each owner's boxes delivered of a job.

    Raises:
        BoxError: that is no job's id, or the gateway has no results of this job.
    """
    command = _READ_RESULT.format(results=_RESULTS, job=_job(job), bytes=_MAX_RESULT)
    lines = host.run(command).splitlines()
    with host.parsing("the job's results"):
        rows = (line.split(" ") for line in lines)
        found = [
            OwnerResult(one_line(owner), base64.b64decode(text).decode(errors="replace"))
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
        datetime.fromtimestamp(min(abs(float(when)), _LATEST), UTC),
        *(owner, job, names[0], names[1], names[2], manifest),
    )


def _edn(text: str) -> dict[str, object]:
    try:
        content = kim_edn.loads(base64.b64decode(text).decode())
    except NONSENSE:
        return {}
    return content if isinstance(content, dict) else {}
