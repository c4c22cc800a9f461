"""An owner or a box is put out at once: after a kill, said twice, with open connections."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from kimpipeline.errors import QueueError
from kimpipeline.queue.jobs import Jobs
from tasks.desk.places import ROOT
from tests.storage.gateway.gateway import HOST, OWNERS, Gateway

OWNER = "mal"
_SOURCES = (f"127.0.1.{number}" for number in range(1, 255))  # sshd remembers who was refused
_KILLED = """
set -eu
mkdir -p /run/kill
printf '#!/bin/sh\\nkill -KILL $PPID\\n' >/run/kill/{step}
chmod 755 /run/kill/{step}
PATH=/run/kill:$PATH {owners} {words} || code=$?
rm -r /run/kill
exit ${{code:-0}}
"""

PASSWORD = "a password"
# What secure does on a box to be known by the gateway.
_HAND_IN = f"""
import socket, sys
sys.path.insert(0, {str(ROOT / "static/onbox/usr/lib/secure")!r})
import site_keys
socket.gethostname = lambda: sys.argv[1]
site = site_keys.Site("127.0.0.1")
try:
    password = sys.stdin.readline().rstrip()
    key = site_keys.hand_in(site, site_keys.host_key(site), sys.argv[2], password)
except site_keys.RefusedError as error:
    sys.exit(str(error))
sys.stdout.write(key.decode())
"""


def boxes(gateway: Gateway) -> set[str]:
    """Of all owners, as their gateway lists them."""
    words = [line.split()[0] for line in gateway.inside(OWNERS, "list").splitlines()]
    return {word for word in words if "." in word}


def secured(gateway: Gateway, hostname: str, owner: str = OWNER) -> str:
    """The name of a box that got a key of its own."""
    before = boxes(gateway)
    words = (sys.executable, "-c", _HAND_IN, hostname, owner)
    told = gateway.outside(*words, stdin=f"{PASSWORD}\n")
    assert told.returncode == 0, told.stderr
    (name,) = boxes(gateway) - before
    mine = gateway.home / name
    mine.touch(mode=0o600)
    mine.write_text(told.stdout)
    return name


def handed_in(gateway: Gateway, key: str, by: str = OWNER) -> str:
    """What a gateway answers to this."""
    told = gateway.by_key(by, HOST, "hand-in", stdin=key, source=next(_SOURCES))
    assert told.returncode in (0, 1), told.stderr
    return " ".join((told.stdout + told.stderr).split())


@pytest.fixture
def mal(gateway: Gateway) -> Iterator[str]:
    """An owner who is to be removed, and whose key lets him in."""
    gateway.inside(OWNERS, "add", OWNER, stdin=f"{PASSWORD}\n")
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
    script = _KILLED.format(step=step, owners=OWNERS, words=f"remove {OWNER}")
    gateway.inside("sh", "-c", script, check=False)
    assert f"\n{OWNER}:" in (gateway.root / "etc/passwd").read_text()  # it was not at its end
    gateway.inside(OWNERS, "remove", OWNER)
    assert gone(gateway)


@pytest.mark.usefixtures("mal")
def test_after_a_kill_and_a_reset_the_key_is_gone(gateway: Gateway) -> None:
    script = _KILLED.format(step="mv", owners=OWNERS, words=f"remove {OWNER}")
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


def test_a_box_has_a_key_of_its_own_and_is_revoked_alone(gateway: Gateway, mal: str) -> None:
    first, second = secured(gateway, "W1.Example (org)"), secured(gateway, "w1")
    assert first.startswith(f"{mal}.w1exampleorg-")
    assert second.startswith(f"{mal}.w1-")
    with (
        gateway.database(first, user="root") as settings,
        Jobs(settings, "w") as jobs,
        gateway.database(second) as others,
    ):
        assert jobs.take(0) is None
        shown = gateway.fab("users")
        (line,) = [each for each in shown.stdout.splitlines() if "w1exampleorg-" in each]
        assert "never" not in line
        owner = f"select owner from pipeline.boxes where name = '{first}'"
        assert gateway.sql(owner) == mal
        told = gateway.fab("revoke", first)
        assert told.returncode == 0, told.stderr
        assert first not in told.stdout
        with pytest.raises(QueueError):
            jobs.rows("version")
        with Jobs(others, "w") as jobs_of_another:
            assert jobs_of_another.take(0) is None
    assert "Permission denied (publickey)" in gateway.by_key(first, HOST).stderr
    assert boxes(gateway) == {second}
    assert let_in(gateway)
    told = gateway.fab("revoke", first)
    assert (told.returncode, told.stderr.count(f"there is no box {first}")) == (1, 1), told.stderr
    gateway.inside(OWNERS, "restore")  # as after a reset
    assert gateway.by_key(second, HOST).returncode == 1  # let in
    gateway.inside(OWNERS, "remove", mal)
    assert "Permission denied (publickey)" in gateway.by_key(second, HOST).stderr


@pytest.mark.usefixtures("mal")
@pytest.mark.parametrize("step", ["mv", "sync", "pkill"])
def test_a_box_is_revoked_again_after_a_kill(gateway: Gateway, step: str) -> None:
    name = secured(gateway, "w1")
    script = _KILLED.format(step=step, owners=OWNERS, words=f"revoke {name}")
    gateway.inside("sh", "-c", script, check=False)
    told = gateway.fab("revoke", name)
    assert (told.returncode, told.stderr.count(f"there is no box {name}")) == (1, 1), told.stderr
    assert "Permission denied (publickey)" in gateway.by_key(name, HOST).stderr
    assert f" {name}\n" not in gateway.inside("cat", "/run/gateway/pg_ident.conf")
    assert let_in(gateway)


def test_nothing_but_a_new_key_is_handed_in(gateway: Gateway, mal: str) -> None:
    """Not another's; no options, no second line, no other kind; and not too many."""
    name = secured(gateway, "w1")
    own = gateway.inside("cat", f"/persistent/gateway/owners/{mal}/boxes/{name[4:]}.pub").strip()
    theirs = gateway.inside("cat", "/persistent/gateway/owners/bob/files/id_ed25519.pub")
    before = gateway.inside("cat", "/run/gateway/authorized_keys")
    assert handed_in(gateway, f"{own} w1\n") == name  # said again
    for bad, why in {
        f"{own} w2\n": "another box's",
        theirs: "another box's",
        f'command="sh" {own}\n': "no ed25519 key",
        f"{own[:-1]}\n": "no ed25519 key",
        f"ssh-rsa {own.split()[1]} w\n": "no ed25519 key",
        own.replace("A", "\\0101") + "\n": "no ed25519 key",  # what dash's echo prints otherwise
        "\n": "no ed25519 key",
        "": "no ed25519 key",
        "../../x\n": "no ed25519 key",
        f"{'x' * 100_000}\n": "no ed25519 key",
    }.items():
        assert why in handed_in(gateway, bad), bad
    assert "a box hands in no other" in handed_in(gateway, f"{own} w1\n", name)
    assert gateway.inside("cat", "/run/gateway/authorized_keys") == before
    folder = f"/persistent/gateway/owners/{mal}/boxes"
    gateway.inside("sh", "-c", f"for n in $(seq 63); do : >{folder}/x-$n.pub; done")
    new = gateway.inside("sh", "-c", "ssh-keygen -qt ed25519 -N '' -f /tmp/k; cat /tmp/k.pub")
    assert f"{mal} has 64 boxes already" in handed_in(gateway, new)
    assert gateway.inside("ls", "-A", folder).count(".new") == 0


def test_a_hostile_disk_adds_no_other_line(gateway: Gateway, mal: str) -> None:
    """Who was root once left files of more lines and options than one key, links and names."""
    name = secured(gateway, "w1")
    before = gateway.inside("cat", "/run/gateway/authorized_keys")
    folder = f"/persistent/gateway/owners/{mal}"
    gateway.inside("sh", "-c", "rm -f /tmp/h*; ssh-keygen -qt ed25519 -N '' -f /tmp/h")
    evil = gateway.inside("cut", "-d ", "-f-2", "/tmp/h.pub").strip()
    script = f"""
        cd {folder}/boxes && own=$(cat {name[4:]}.pub)
        printf '%s\n' "$own" '{evil}' >{name[4:]}.pub
        printf '\n%s' '{evil} x' >b.pub
        printf '%s\n' 'command="sh" {evil}' >c.pub
        ln -s /tmp/h.pub d.pub; mkfifo e.pub; mkdir f.pub
        cp /tmp/h.pub 'g" x.pub'; cp /tmp/h.pub "$(printf 'i\n.pub')"
        install -m 666 /tmp/h.pub j.pub
        echo '{evil}' >>../files/id_ed25519.pub
        mkdir -p '../../k" x' && cp -rp ../files ../password '../../k" x'
    """
    gateway.inside("sh", "-ec", script)
    try:
        gateway.inside(OWNERS, "restore", check=False)
        assert gateway.inside("cat", "/run/gateway/authorized_keys") == before
        assert boxes(gateway) == {name}
    finally:
        gateway.inside("rm", "-r", '/persistent/gateway/owners/k" x')
