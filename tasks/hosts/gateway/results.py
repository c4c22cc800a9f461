"""The results on a gateway: list them, read those of one job."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime

import kim_edn
from pydantic import TypeAdapter, ValidationError

from deploys.errors import BoxError, one_line
from deploys.session import NONSENSE
from kimpipeline.kim.kimid import JobId
from tasks.hosts.connection import Host

RESULTS = "/srv/pipeline/results"
_MAX_BYTES = 65536  # of a file of metadata
_MAX_RESULT = 2**20
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp() - 1

# The names that a result has: its owner's and its job's, with a number if it is a later one of that
# job. Others are not listed.
_LATER = r"([.][1-9][0-9]{0,5})?"
PLACE = (
    r"\./[a-z_][a-z0-9_-]{0,31}"
    r"/(TE|VC)_[0-9]{12}_[0-9]{3}-and-(MO|SM)_[0-9]{12}_[0-9]{3}-[0-9a-f]{12}"
) + _LATER
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

# A line for each result of the job, the first ones first: owner, folder, and the result.
_READ_RESULT = """cd {results} && export LC_ALL=C &&
    find . -mindepth 2 -maxdepth 2 -type d -regextype posix-extended \\
        -regex '\\./[a-z_][a-z0-9_-]*/{job}{later}' -printf '%f %P\\n' |
    sort -V | head -n {most} | while read -r name path; do
        [ -f "$path/results.edn" ] || continue
        text=$(head -c {bytes} "$path/results.edn" | base64 -w 0)
        printf '%s %s %s\\n' "${{path%/*}}" "$name" "$text"
    done"""
_MOST_RUNS = 100  # results of one job that are read: a box may send any number


@dataclass(frozen=True)
class JobResult:
    """A job's result on a gateway; ``fault`` is empty if the job succeeded.

    ``folder`` is the job, with a number if it is not the first result of that job and owner.
    """

    when: datetime
    owner: str
    job: str
    folder: str
    test: str
    model: str
    fault: str
    manifest: str


@dataclass(frozen=True)
class OwnerResult:
    """What an owner's boxes delivered of one run of a job: its results.edn.

    ``folder`` is the job, with a number if it is not the first result of that job and owner.
    """

    owner: str
    folder: str
    results: str


def checked_job(text: str) -> str:
    """A job's id.

    Raises:
        BoxError: it is none.
    """
    try:
        return _JOB.validate_python(text)
    except ValidationError as error:
        raise BoxError(f"{text!r} is no id of a job: pipeline.results lists them") from error


def newest_results(host: Host, most: int) -> list[JobResult]:
    """List at most ``most`` results on a gateway, the newest first."""
    command = _LIST_RESULTS.format(
        results=RESULTS, place=PLACE, most=max(1, most), bytes=_MAX_BYTES
    )
    lines = host.run(command).splitlines()
    with host.parsing("its results"):
        return [_parse_result(line) for line in lines]


def read_result(host: Host, job: str) -> list[OwnerResult]:
    """Read what each owner's boxes delivered of a job, the first results first.

    Raises:
        BoxError: that is no job's id, or the gateway has no results of this job.
    """
    command = _READ_RESULT.format(
        results=RESULTS, job=checked_job(job), later=_LATER, most=_MOST_RUNS, bytes=_MAX_RESULT
    )
    lines = host.run(command).splitlines()
    with host.parsing("the job's results"):
        rows = (line.split(" ") for line in lines)
        found = [
            OwnerResult(
                one_line(owner), one_line(folder), base64.b64decode(text).decode(errors="replace")
            )
            for owner, folder, text in rows
        ]
    if not found:
        raise BoxError(f"{host.name} has no results of {job}")
    return found


def _parse_result(line: str) -> JobResult:
    """Parse a line of the listing; metadata that cannot be parsed counts as empty."""
    when, place, *files = line.split(" ")
    owner, _, folder = place.partition("/")
    job, _, _ = folder.partition(".")
    _JOB.validate_python(job)
    about, made = (_edn(files[number] if number < len(files) else "") for number in (0, 1))
    come = made.get("provenance")
    manifest = str(come.get("manifest", "")) if isinstance(come, dict) else ""
    names = [str(about.get(name, "")) for name in ("test", "model", "error")]
    # A box sets the time of a file that it sends: there may be no such date.
    return JobResult(
        datetime.fromtimestamp(min(abs(float(when)), _LATEST), UTC),
        *(owner, job, folder, names[0], names[1], names[2], manifest),
    )


def _edn(text: str) -> dict[str, object]:
    try:
        content = kim_edn.loads(base64.b64decode(text).decode())
    except NONSENSE:
        return {}
    return content if isinstance(content, dict) else {}
