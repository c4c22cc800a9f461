"""An owner is removed at once: after a kill, said twice, with connections that are open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kimpipeline.errors import QueueError
from kimpipeline.queue.jobs import Jobs
from tests.storage.gateway.gateway import HOST, OWNERS, Gateway

OWNER = "mal"
_SOURCES = (f"127.0.1.{number}" for number in range(1, 255))  # sshd remembers who was refused
_KILLED = """
set -eu
mkdir -p /run/kill
printf '#!/bin/sh\\nkill -KILL $PPID\\n' >/run/kill/{step}
chmod 755 /run/kill/{step}
PATH=/run/kill:$PATH {owners} remove {owner} || code=$?
rm -r /run/kill
exit ${{code:-0}}
"""


@pytest.fixture
def mal(gateway: Gateway) -> Iterator[str]:
    """An owner who is to be removed, and whose key lets him in."""
    gateway.inside(OWNERS, "add", OWNER, stdin="a password\n")
    (gateway.home / OWNER).unlink(missing_ok=True)
    assert let_in(gateway)
    yield OWNER
    gateway.inside(OWNERS, "remove", OWNER)


def let_in(gateway: Gateway) -> bool:
    """Whether his key lets him in, to be told that it is good for nothing else."""
    return gateway.by_key(OWNER, HOST, source=next(_SOURCES)).returncode == 1


def gone(gateway: Gateway) -> bool:
    """Whether nothing of his is left but his results."""
    return not (
        let_in(gateway)
        or (gateway.state / "owners" / OWNER).exists()
        or f"\n{OWNER}:" in (gateway.root / "etc/passwd").read_text()
    )


# Each step of a removal, by the command that does it: before it, the script is killed.
@pytest.mark.usefixtures("mal")
@pytest.mark.parametrize("step", ["mv", "sync", "pkill", "userdel"])
def test_after_a_kill_it_is_said_again(gateway: Gateway, step: str) -> None:
    script = _KILLED.format(step=step, owners=OWNERS, owner=OWNER)
    gateway.inside("sh", "-c", script, check=False)
    assert f"\n{OWNER}:" in (gateway.root / "etc/passwd").read_text()  # it was not at its end
    gateway.inside(OWNERS, "remove", OWNER)
    assert gone(gateway)


@pytest.mark.usefixtures("mal")
def test_after_a_kill_and_a_reset_the_key_is_gone(gateway: Gateway) -> None:
    script = _KILLED.format(step="mv", owners=OWNERS, owner=OWNER)
    gateway.inside("sh", "-c", script, check=False)
    gateway.inside(OWNERS, "restore")
    assert not let_in(gateway)


def test_it_is_the_same_when_said_twice(gateway: Gateway, mal: str) -> None:
    assert gateway.inside(OWNERS, "remove", mal) == ""
    for _ in range(2):
        told = gateway.inside(OWNERS, "remove", mal)
        assert told == f"{mal} had no account: nothing is left of one\n"
    assert gone(gateway)


def test_a_line_that_was_left_goes_with_a_name_that_is_unknown(gateway: Gateway, mal: str) -> None:
    gateway.inside("rm", "-r", f"/persistent/gateway/owners/{mal}")  # by hand, say
    assert f"transfer {mal}" in gateway.inside("cat", "/run/gateway/authorized_keys")
    gateway.inside(OWNERS, "remove", mal)
    assert not let_in(gateway)


def test_connections_that_are_open_end(gateway: Gateway, mal: str) -> None:
    with gateway.database(mal) as settings, Jobs(settings, "w") as jobs:
        assert jobs.rows("version")
        gateway.inside(OWNERS, "remove", mal)
        with pytest.raises(QueueError):
            jobs.rows("version")
    assert gateway.sql("select revoked is null from pipeline.boxes where name = 'mal'") == "f"


def test_an_owner_is_removed_while_the_database_is_away(gateway: Gateway, mal: str) -> None:
    """Nobody comes in without the key; at its next start the database knows, too."""
    gateway.kill("postgres")
    gateway.inside(OWNERS, "remove", mal)
    assert gone(gateway)
    gateway.start("database")
    assert gateway.sql("select revoked is null from pipeline.boxes where name = 'mal'") == "f"
