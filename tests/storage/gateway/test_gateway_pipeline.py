"""What an operator has run, watches and reads on a gateway, with fab over a real sshd."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.storage.gateway.gateway import ITEM, QUEUE, Gateway

JOB = "TE_000000000111_000-and-MO_405512056662_005-0123456789ab"


def ask(gateway: Gateway, *lines: str) -> str:
    """What the queue answers to its own protocol."""
    host, port = QUEUE.split(":")
    words = "".join(f"{line}\\r\\n" for line in (*lines, "quit"))
    return gateway.inside(
        "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}; printf '{words}' >&3; cat <&3"
    )


def _ready(gateway: Gateway) -> str:
    """The id of the update that is on the queue."""
    return ask(gateway, "use updates", "peek-ready").split("FOUND ")[1].split()[0]


@pytest.fixture
def results(gateway: Gateway) -> Iterator[None]:
    """Two results of bob's: one good, one whose worker would like to write to the terminal."""
    specs = {
        JOB: '{"test" "T__TE_000000000111_000" "model" "M__MO_405512056662_005"}',
        f"{JOB[:-1]}c": '{"test" "T" "model" "M\\u001b[2J" "error" "it said\\nmuch"}',
        f"{JOB[:-1]}d": "[" * 5000,
    }
    for name, spec in specs.items():
        folder = gateway.results("bob") / name
        folder.mkdir()
        (folder / "kimspec.edn").write_text(spec)
    good = gateway.results("bob") / JOB
    (good / "pipelinespec.edn").write_text('{"provenance" {"manifest" "abcdef0123456789ff"}}')
    (good / "results.edn").write_text("[{1 2}]\n")
    yield
    for name in specs:
        for file in (gateway.results("bob") / name).iterdir():
            file.unlink()
        (gateway.results("bob") / name).rmdir()


def test_an_update_is_put_on_the_queue(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.submit", ITEM, "--priority", "7")
    assert (told.returncode, told.stderr) == (0, "")
    assert f"127.0.0.1: {ITEM} is on the queue\n" in told.stdout
    shown = ask(gateway, "use updates", "peek-ready")
    body = next(line for line in shown.splitlines() if line.startswith("{"))
    assert json.loads(body) == {"kimid": ITEM, "priority": 7, "status": "approved"}
    table = gateway.fab("pipeline.queue", "--once").stdout
    row = next(line for line in table.splitlines() if "updates" in line)
    assert row.split("│")[2].strip() == "1"
    identifier = shown.split("FOUND ")[1].split()[0]
    assert "DELETED" in ask(gateway, f"delete {identifier}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("No__MO_000000000000_000",), "127.0.0.1 has no item No__MO_000000000000_000 in /srv"),
        (("../../etc",), "'../../etc' is no KIM id"),
        (("$(touch /tmp/it-ran)",), "is no KIM id"),
        ((ITEM, "--priority", "-1"), "greater than or equal to 0"),
        ((ITEM, "--status", "other"), "'approved' or 'pending'"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    gateway: Gateway, words: tuple[str, ...], line: str
) -> None:
    told = gateway.fab("pipeline.submit", *words)
    assert told.returncode == 1
    assert told.stderr.startswith("error: ")
    assert line in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert "NOT_FOUND" in ask(gateway, "use updates", "peek-ready")


@pytest.mark.usefixtures("results")
def test_what_has_results_already_is_said(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.submit", ITEM)
    line = f"{ITEM} is on the queue; 3 of its pairs have results, and run again only in other"
    assert line in told.stdout
    assert "DELETED" in ask(gateway, f"delete {_ready(gateway)}")


@pytest.fixture
def director(gateway: Gateway) -> Iterator[None]:
    """The gateway has a director of its own."""
    wants = gateway.root / "etc/systemd/system/multi-user.target.wants/pipeline-director.service"
    unit = gateway.root / "etc/systemd/system/pipeline-director.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    wants.parent.mkdir(exist_ok=True)
    wants.symlink_to("../pipeline-director.service")
    yield
    wants.unlink()
    unit.unlink()


@pytest.mark.usefixtures("director")
def test_a_model_that_the_director_lacks_is_refused(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.submit", ITEM)
    assert told.returncode == 1
    line = f"error: 127.0.0.1 makes jobs, and its KIM API has no Model {ITEM}: install it there"
    assert told.stderr.startswith(line)
    assert "NOT_FOUND" in ask(gateway, "use updates", "peek-ready")
    installed = gateway.root / "usr/lib/x86_64-linux-gnu/kim-api/portable-models" / ITEM
    installed.mkdir(parents=True)
    told = gateway.fab("pipeline.submit", ITEM)
    installed.rmdir()
    assert f"127.0.0.1: {ITEM} is on the queue\n" in told.stdout
    assert "DELETED" in ask(gateway, f"delete {_ready(gateway)}")


@pytest.mark.usefixtures("results")
def test_results_are_listed_whatever_a_worker_wrote(gateway: Gateway) -> None:
    told = gateway.fab("pipeline.results")
    assert (told.returncode, told.stderr) == (0, "")
    lines = {line.split()[3]: line for line in told.stdout.splitlines()}
    assert len(lines) == 3
    wanted = f"bob {JOB} T__TE_000000000111_000 M__MO_405512056662_005 abcdef0123456789 good"
    assert wanted in lines[JOB]
    assert "M\ufffd[2J" in lines[f"{JOB[:-1]}c"]
    assert "failed: it said much" in lines[f"{JOB[:-1]}c"]


@pytest.mark.usefixtures("results")
def test_one_result_is_shown(gateway: Gateway) -> None:
    assert gateway.fab("pipeline.results", "--job", JOB).stdout == "; of bob\n  [{1 2}]\n"
    for name in ("no-such", "$(touch /tmp/it-ran)", "../x"):
        told = gateway.fab("pipeline.results", "--job", name)
        assert told.returncode == 1
        assert "is no id of a job" in told.stderr
    assert not (gateway.root / "tmp/it-ran").exists()


def test_a_queue_that_is_away_is_one_line(gateway: Gateway) -> None:
    gateway.kill("beanstalkd")
    told = gateway.fab("pipeline.queue", "--once")
    gateway.start("beanstalkd", 14177)
    assert told.returncode == 1
    assert len(told.stderr.splitlines()) == 1
    assert "127.0.0.1" in told.stderr
