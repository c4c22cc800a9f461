"""A gateway that somebody tries to choke: its disk, its logins, its queue, its transfers."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimpipeline.errors import QueueError
from kimpipeline.queue.updates import Updates
from tasks.desk import loop, shell
from tests.storage.gateway.gateway import HOST, OWNERS, Gateway, layered, running
from tests.storage.gateway.pipeline.test_gateway_queue import entry

# sshd greets whom it serves at once, and closes the others.
_IDLE = """
import socket, sys
count, source = int(sys.argv[1]), sys.argv[2]
here, there = (source, 0), ("127.0.0.1", 22)
mine = [socket.create_connection(there, source_address=here) for _ in range(count)]
def greeted(each):
    try:
        return each.recv(100).startswith(b"SSH-2.0")
    except OSError:
        return False
print(sum(map(greeted, mine)), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def small(gateway_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose /persistent is a filesystem of 256 MiB, with the owners ada and bob."""
    folder = tmp_path_factory.mktemp("small")
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(256 * 2**20)
    shell.run(["mkfs.ext4", "-q", str(image)])
    (folder / "layers").mkdir()
    (folder / "home").mkdir()
    with (
        layered(gateway_root, folder / "layers") as root,
        loop.mounted(str(image), folder / "layers/root/persistent", "-o", "loop"),
    ):
        shutil.copytree(gateway_root / "persistent", root / "persistent", dirs_exist_ok=True)
        with running(root, folder / "home") as made:
            for owner in ("ada", "bob"):
                made.inside(OWNERS, "add", owner, stdin="a password\n")
            yield made


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results, as a worker has it."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "results.edn").write_text("[{}]\n")
    return folder


def deliver(gateway: Gateway, owner: str, results: Path, job: str) -> bool:
    """Whether an owner's results arrive."""
    arrived = gateway.rsync(owner, "-a", f"{results}/", f"{HOST}:{job}/").returncode == 0
    return arrived and (gateway.results(owner) / job / "results.edn").exists()


def takes_jobs(gateway: Gateway, *numbers: int) -> None:
    """A director of ada's adds jobs, each of as many items as there can be."""
    gateway.sql("select pipeline.submit('x', 1, 'approved')")
    with gateway.database("ada") as settings, Updates(settings) as updates:
        taken = updates.take(5)
        assert taken
        updates.add(taken, map(entry, numbers))
        updates.finish(taken, "")


def test_an_owner_fills_no_more_than_his_quota(
    small: Gateway, results: Path, tmp_path: Path
) -> None:
    much = tmp_path / "much"
    much.mkdir()
    (much / "results.edn").write_bytes(bytes(40 * 2**20))
    assert not deliver(small, "bob", much, "job-1")
    (much / "results.edn").write_bytes(bytes(5 * 2**20))
    assert [deliver(small, "bob", much, f"job-{n}") for n in range(4)].count(True) < 3
    assert deliver(small, "ada", results, "job-1")
    takes_jobs(small, 1)
    rows = {line.split()[0]: line.split()[4:] for line in small.inside(OWNERS, "list").splitlines()}
    used, quota = map(int, rows["bob"])
    assert 10 * 2**20 < used <= quota <= 16 * 2**20
    assert int(rows["ada"][0]) < 2**20


def test_on_a_full_disk_an_owner_is_removed(small: Gateway, results: Path) -> None:
    full = "dd if=/dev/zero of=/persistent/full bs=1M 2>/dev/null || sync -f /persistent"
    small.inside("sh", "-c", full)
    try:
        small.inside(OWNERS, "add", "mal", stdin="a password\n", check=False)
        assert deliver(small, "ada", results, "job-2")
        takes_jobs(small, 2)
        small.inside(OWNERS, "remove", "bob")
        refused = small.by_key("bob", HOST, source="127.0.0.8")
        assert "Permission denied (publickey)" in refused.stderr
    finally:
        small.inside("rm", "/persistent/full")
        small.inside(OWNERS, "add", "bob", stdin="a password\n")
        (small.home / "bob").unlink()


def test_a_flood_of_jobs_fills_the_queues_room_alone(small: Gateway, results: Path) -> None:
    """By a hostile director; then the database starts again, and what is there can be ended."""

    def flood() -> None:
        for first in range(1000, 1_000_000, 5000):
            takes_jobs(small, *range(first, first + 5000))

    with pytest.raises(QueueError, match="no room") as caught:
        flood()
    assert "\n" not in str(caught.value)
    assert deliver(small, "ada", results, "job-3")
    small.inside("pkill", "-KILL", "-x", "postgres", check=False)
    small.start("database")
    small.sql("truncate pipeline.jobs, pipeline.attempts, pipeline.changes cascade")
    takes_jobs(small, 3)


def test_idle_connections_keep_nobody_out(gateway: Gateway) -> None:
    """One address connects more often than sshd allows all together; and the workers' own, too."""
    login = shlex.join(["ssh", *gateway.with_key("ada"), HOST])
    logins = f"for n in 1 2 3 4 5 6 7 8; do ({login} 2>&1; echo code $?) & done; wait"
    with connected(gateway, 450, "127.0.0.9") as theirs, connected(gateway, 110) as ours:
        assert (theirs, ours) == (150, 110)
        told = gateway.outside("sh", "-c", logins).stdout
    assert told.count("code 1\n") == 8, told  # let in, and nothing asked


@contextlib.contextmanager
def connected(gateway: Gateway, count: int, source: str = "127.0.0.1") -> Iterator[int]:
    """So many connections to sshd from one address that do nothing; how many of them it greeted."""
    words = gateway.world.enter("python3", "-c", _IDLE, str(count), source)
    with piped(words) as attack:
        assert attack.stdout
        yield int(attack.stdout.readline())


def piped(words: list[str | Path]) -> subprocess.Popen[bytes]:
    """A program that ends when its input does, at the latest with the block."""
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


_SLOTS = """
for slot in $(seq 31); do
    exec 8>/run/gateway/slots/ada.$slot
    flock -n 8 || exit 1
    sleep 600 & # it has the lock now
done
echo held
cat
kill $(jobs -p)
"""


_ONE_WAITS = """
until [ "$(pgrep -c -f '^[^ ]*rsync --server'),$(pgrep -c -x flock)" = 1,1 ]; do sleep 0.1; done
"""


def test_one_key_does_not_take_all_transfers(gateway: Gateway, results: Path) -> None:
    """All but one are held; the next two are real ones, of which she never sends a word."""
    pipeline = ("setpriv", "--reuid=pipeline", "--regid=pipeline", "--clear-groups")
    held = gateway.world.enter("chroot", gateway.root, *pipeline, "bash", "-c", _SLOTS)
    idle = gateway.world.enter(
        "ssh", *gateway.with_key("ada"), HOST, "rsync --server -e.LsfxCIvu . ."
    )
    with piped(held) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with piped(idle) as one, piped(idle) as other:
            assert deliver(gateway, "bob", results, "job-4")
            gateway.inside("timeout", "20", "sh", "-c", _ONE_WAITS)
            assert one.poll() is other.poll() is None
            for each in (one, other):  # else the one that waits would be waited for first
                assert each.stdin
                each.stdin.close()


_OLD = "/srv/pipeline/results/old"
_ROOMS = "/persistent/gateway/rooms"
_IMAGE = f"{_ROOMS}/results-old"


def test_a_room_takes_what_was_there_and_grows(gateway: Gateway) -> None:
    """Results of an older version; a larger quota at the next boot; a kill while a room grows."""
    gateway.inside("sh", "-c", f"mkdir {_OLD} && echo it >{_OLD}/file")
    sizes: list[int] = []
    killed = f"fallocate -l 32M {_IMAGE} && >{_ROOMS}/.growing-results-old"
    for step in ("true", "true", killed):
        gateway.inside("sh", "-c", step)
        size = (16, 24, 32)[len(sizes)] * 2**20
        for _ in range(2):
            gateway.inside("/usr/lib/gateway/room", "results-old", _OLD, str(size), "pipeline")
        assert gateway.inside("cat", f"{_OLD}/file") == "it\n"
        assert gateway.inside("stat", "-c", "%U %a", _OLD) == "pipeline 750\n"
        sizes.append(int(gateway.inside("df", "--output=size", _OLD).split()[-1]))
        gateway.inside("umount", _OLD)
        assert gateway.inside("stat", "-c", "%U %a", _OLD) == "root 755\n"
    assert sizes == sorted(set(sizes))
    assert gateway.inside("ls", "-A", _OLD) == ""  # it would be hidden, and take its room twice
    gateway.inside("rm", "-r", _OLD, _IMAGE)


def test_a_room_that_cannot_be_made_changes_nothing(gateway: Gateway) -> None:
    gateway.inside("sh", "-c", f"mkdir {_OLD} && head -c 20M /dev/urandom >{_OLD}/file")
    with pytest.raises(Exception, match="too little for what is there"):
        gateway.inside("/usr/lib/gateway/room", "results-old", _OLD, str(16 * 2**20), "pipeline")
    assert gateway.inside("stat", "-c", "%s", f"{_OLD}/file") == f"{20 * 2**20}\n"
    assert gateway.inside("ls", "-A", _ROOMS).count("old") == 0
    gateway.inside("rm", "-r", _OLD)
