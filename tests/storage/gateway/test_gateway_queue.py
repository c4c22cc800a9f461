"""The queue of a gateway: what it has taken is there after it was killed, whatever its size."""

from __future__ import annotations

from tests.storage.gateway.gateway import QUEUE, Gateway

HOST = "pipeline@127.0.0.1"


def told(gateway: Gateway, *requests: str) -> str:
    """What the queue answers over a tunnel of ada's."""
    lines = "".join(f"{request}\r\n" for request in (*requests, "quit"))
    return gateway.by_key("ada", "-W", QUEUE, HOST, stdin=lines).stdout


def put(size: int, priority: int) -> tuple[str, str]:
    return f"put {priority} 0 60 {size}", "x" * size


def test_a_kill_loses_no_job(gateway: Gateway) -> None:
    # more than beanstalkd's own limit, where its binlog breaks; the last is above ours
    sizes = (10, 65_533, 65_535, 1_000_000, 10, 1_100_000)
    answers = told(gateway, *(line for size in sizes for line in put(size, 7))).splitlines()
    assert [answer.split()[0] for answer in answers] == ["INSERTED"] * 5 + ["JOB_TOO_BIG"]
    jobs = [answer.split()[1] for answer in answers[:5]]  # others were there before
    reserved = told(gateway, "reserve", f"bury {jobs[0]} 7")
    assert reserved.startswith(f"RESERVED {jobs[0]} 10")
    gateway.kill("beanstalkd")
    gateway.start("beanstalkd", 14177)
    stats = told(gateway, "stats-tube default")
    assert "current-jobs-ready: 4" in stats
    assert "current-jobs-buried: 1" in stats
    told(gateway, *(f"delete {job}" for job in jobs))
    assert "current-jobs-ready: 0" in told(gateway, "stats-tube default")


def test_it_is_on_the_loopback_alone(gateway: Gateway) -> None:
    listening = gateway.world.run("ss", "--listening", "--tcp", "--numeric", "--no-header")
    places = {line.split()[3] for line in listening.splitlines()}
    assert QUEUE in places
    assert places - {QUEUE} == {"0.0.0.0:22", "[::]:22"}
