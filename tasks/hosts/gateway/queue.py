"""A gateway's queue: submit an update, look at it, run jobs again or end them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, TypeAdapter, ValidationError

from deploys.errors import BoxError
from deploys.services.runner import DIRECTOR
from kimpipeline.kim.kimid import MODELS, code, kind
from kimpipeline.queue.messages import Update
from kimpipeline.settings import Folders
from tasks.hosts.connection import Host
from tasks.hosts.gateway.results import PLACE, RESULTS, checked_job

# Root of a gateway is its database's operator by being the user postgres.
_PSQL = "cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d pipeline"
_ITEMS = "/srv/pipeline/items"

# Three numbers: whether there is such an item; whether a director runs here whose KIM API has no
# Model of that name, and that cannot build it; how many jobs of it have results.
_ABOUT_ITEM = """export LC_ALL=C
    [ -d {items}/{item} ] && echo 1 || echo 0
    systemctl --quiet is-enabled {director} && [ -z "$(ls -d {models} 2>/dev/null)" ] &&
        {{ [ ! -f {items}/{item}/CMakeLists.txt ] || ! command -v cmake >/dev/null; }} &&
        echo 1 || echo 0
    cd {results} && find . -mindepth 2 -maxdepth 2 -type d -regextype posix-extended \\
        -regex '{place}' -name '*{code}*' -printf '%f\\n' |
        sed 's/[.].*//' | sort -u | wc -l"""


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
        results=RESULTS,
        place=PLACE,
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
    text = _ask(host, f"select pipeline.attempts_of({_text(checked_job(job))})")
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
    return f"array[{', '.join(_text(checked_job(job)) for job in jobs)}]::text[]"


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"
