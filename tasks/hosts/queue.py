"""The tasks on a pipeline's gateway: what is to be run, what waits, what came of it."""

from __future__ import annotations

import base64
import contextlib
import shlex
import time
from collections.abc import Callable, Iterator

import greenstalk
import kim_edn
from invoke.context import Context
from invoke.tasks import task
from pydantic import ValidationError
from rich.live import Live

from deploys.errors import BoxError, DeployError, UnreachableError
from deploys.settings import QUEUE_PORT
from kimpipeline.queue.messages import ERRORS, JOBS, RESULTS, UPDATES, Update
from tasks.desk.progress import console, exit_on_error
from tasks.hosts import show
from tasks.hosts.connection import Host
from tasks.hosts.expectations import expect_gateway
from tasks.hosts.fleet import host_of
from tasks.hosts.show import Ended, Tube

_TUBES = (UPDATES, JOBS, RESULTS, ERRORS)
_ITEMS, _RESULTS = "/srv/pipeline/items", "/srv/pipeline/results"
_EVERY = 2.0  # seconds between two looks at the queue
_MOST = 65536  # bytes of a file that says what a result is

# A line for each of the newest results: when, where, and its two files of metadata, which a worker
# wrote, so that nobody can make them be more than one word.
_LIST = """cd {results} && find . -mindepth 3 -maxdepth 3 -name kimspec.edn -printf '%T@ %P\\n' |
    sort -rn | head -n {most} | while read -r when path; do
        echo "$when ${{path%/*}}" $(for f in kimspec pipelinespec; do
            head -c {bytes} "${{path%/*}}/$f.edn" 2>/dev/null | base64 -w 0; echo; done)
    done"""


@task(
    help={
        "item": "KIM id of a Test, a Model or a driver, all of whose pairs are to run.",
        "priority": "A number; the lowest runs first.",
        "status": "approved; or pending, which only logs how many pairs there are.",
    }
)
def submit(c: Context, item: str, priority: int = 2**16, status: str = "approved") -> None:
    """On a gateway: run all pairs that an item takes part in."""
    with _gateway(c) as host:
        try:
            values = {"kimid": item, "priority": priority, "status": status}
            update = Update.model_validate(values)
        except ValidationError as error:
            raise BoxError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        if host.run(f"[ -d {_ITEMS}/{update.kimid} ] || echo no"):
            raise BoxError(f"{host.name} has no item {update.kimid} in {_ITEMS}")
        with _connected(host) as client:
            client.use(UPDATES)
            client.put(update.model_dump_json(), priority=update.priority)
        print(f"{host.name}: {update.kimid} is on the queue")


@task(help={"once": "Show it as it is now, and end."})
def queue(c: Context, once: bool = False) -> None:
    """On a gateway: watch the queue: what waits, who works, how fast; until Ctrl-C."""
    with _gateway(c) as host, _connected(host) as client:
        look = _looks(client)
        if once or not console.is_terminal:
            show.tubes(host.name, look())
            return
        with contextlib.suppress(KeyboardInterrupt), Live(console=console) as live:
            while True:
                live.update(show.tube_table(host.name, look()), refresh=True)
                time.sleep(_EVERY)  # a clock, not a wait: it is what is watched that changes


@task(help={"job": "Show the results of this job.", "most": "How many of the newest to list."})
def results(c: Context, job: str = "", most: int = 20) -> None:
    """On a gateway: list the newest results, or show one."""
    with _gateway(c) as host:
        if job:
            command = f"cat {_RESULTS}/*/{shlex.quote(job)}/results.edn"
            try:
                print(host.run(command).rstrip())
            except DeployError as error:
                raise BoxError(f"{host.name} has no results of {job}") from error
            return
        command = _LIST.format(results=_RESULTS, most=max(1, most), bytes=_MOST)
        show.results(host.name, [_ended(line) for line in host.run(command).splitlines()])


@contextlib.contextmanager
def _gateway(c: Context) -> Iterator[Host]:
    """The host of a task, which must be a gateway; every fault is one line."""
    with exit_on_error():
        host = host_of(c)
        try:
            expect_gateway(host, host.state())
            yield host
        finally:
            host.close()


@contextlib.contextmanager
def _connected(host: Host) -> Iterator[greenstalk.Client[str]]:
    """The queue of a gateway, through the SSH connection."""
    try:
        with (
            host.forwarded(QUEUE_PORT) as end,
            contextlib.closing(greenstalk.Client(end, encoding="utf-8")) as client,
        ):
            yield client
    except greenstalk.Error as error:
        raise UnreachableError(f"{host.name}: the queue: {type(error).__name__}") from error
    except (OSError, ValueError, IndexError) as error:  # what greenstalk makes of half an answer
        raise UnreachableError(f"{host.name}: the queue does not answer") from error


def _looks(client: greenstalk.Client[str]) -> Callable[[], list[Tube]]:
    """Something that looks at the tubes each time that it is called, and knows the last time."""
    before: dict[str, tuple[float, int]] = {}

    def look() -> list[Tube]:
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

    return look


def _number(stats: dict[str, object], name: str) -> int:
    return int(str(stats[name]))


def _ended(line: str) -> Ended:
    """A result, of a line of the listing; a file of it that cannot be read counts as empty."""
    when, place, *files = line.split(" ")
    owner, _, job = place.partition("/")
    about, made = (_edn(files[number] if number < len(files) else "") for number in (0, 1))
    come = made.get("provenance")
    manifest = str(come.get("manifest", "")) if isinstance(come, dict) else ""
    names = [str(about.get(name, "")) for name in ("test", "model", "error")]
    return Ended(float(when), owner, job, names[0], names[1], names[2], manifest)


def _edn(text: str) -> dict[str, object]:
    try:
        content = kim_edn.loads(base64.b64decode(text).decode())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
