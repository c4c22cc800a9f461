"""A gateway is lost in the middle of a thousand jobs, and another takes its place."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.services.gateway import BACKUP
from kimpipeline.queue.jobs import Jobs
from tests.storage.conftest import root_of
from tests.storage.gateway import gateway as gateways
from tests.storage.gateway.gateway import OWNERS, Gateway
from tests.storage.gateway.pipeline.test_gateway_queue import add, entry

JOBS, FIRST = 1000, 300
ADA = gateways.PASSWORDS["ada"]
OF_HER = "ada@127.0.0.1"
HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


@contextlib.contextmanager
def a_gateway(root: Path, folder: Path) -> Iterator[Gateway]:
    for name in ("layers", "home"):
        (folder / name).mkdir(parents=True)
    with (
        gateways.layered(root, folder / "layers") as layered,
        gateways.running(layered, folder / "home") as made,
    ):
        yield made


def work(gateway: Gateway, worker: str, most: int) -> int:
    """Do so many jobs at most as a box of ada's does: a result arrives, then its job is done."""
    with gateway.database("ada") as settings, Jobs(settings, worker) as jobs:
        jobs.enter({})
        for done in range(most):
            lease = jobs.take(0)
            if lease is None:
                return done
            folder = gateway.results("ada") / lease.name
            folder.mkdir(exist_ok=True)  # it arrived, and the gateway was lost
            (folder / "results.edn").write_text(f"[{lease.name}]")
            jobs.finish(lease, 1, f"[{lease.name}]")
    return most


def results(gateway: Gateway) -> set[str]:
    return {each.name for each in gateway.results("ada").iterdir() if each.name != "lost+found"}


def done(gateway: Gateway) -> set[str]:
    return set(gateway.sql("select id from pipeline.jobs where state = 'done'").split())


@pytest.fixture(params=["trixie", pytest.param("bookworm", marks=pytest.mark.long)])
def backup(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> Path:
    """A backup that was taken while boxes worked; the gateway is gone.

    It had this Debian, and so its PostgreSQL. Beside the backup lie what the gateway was known by,
    and which jobs were done in the end.
    """
    with a_gateway(root_of(request.param, shared), tmp_path / "old") as old:
        old.inside(OWNERS, "add", "ada", stdin=f"{ADA}\n")
        (old.items / gateways.ITEM).mkdir()
        add(old, *(entry(number) for number in range(1, JOBS + 1)))
        assert work(old, "first", FIRST) == FIRST
        busy = threading.Thread(target=work, args=(old, "busy", FIRST))
        busy.start()
        ran = old.fab("backup", "--to", str(tmp_path / "kept"))
        busy.join()
        assert ran.returncode == 0, ran.stderr
        (tmp_path / "done").write_text("\n".join(done(old)))
        for path in (old.key("ada"), old.root / HOST_KEY):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    [made] = (tmp_path / "kept").iterdir()
    assert made.stat().st_mode & 0o777 == 0o700  # there are keys in it
    return made


def test_a_gateway_that_is_lost_is_restored(
    gateway_root: Path, backup: Path, tmp_path: Path
) -> None:
    """Each job has one good result in the end, and boxes and owners log in as before."""
    with a_gateway(gateway_root, tmp_path / "new") as new:
        # the first restore broke off
        shutil.copy(backup / "database.dump", new.root / "var/tmp")
        new.inside("sh", "-c", f"{BACKUP} take-database </var/tmp/database.dump")
        ran = new.fab("restore", "--from", str(backup))
        assert ran.returncode == 0, ran.stderr
        assert new.key("ada").read_bytes() == (tmp_path / "ada").read_bytes()
        assert (new.root / HOST_KEY).read_bytes() == (tmp_path / Path(HOST_KEY).name).read_bytes()
        assert (new.items / gateways.ITEM).is_dir()
        kept = done(new)
        assert len(kept) >= FIRST
        assert kept <= set((tmp_path / "done").read_text().split())
        assert kept <= results(new)
        restart_sshd(new)
        assert work(new, "first", JOBS) == JOBS - len(kept)
        assert done(new) == results(new)
        good = "select count(*), count(distinct job) from pipeline.attempts where how = 'good'"
        assert new.sql(good) == f"{JOBS}|{JOBS}"
        told = new.by_password(ADA, "sftp", f"{OF_HER}:id_ed25519.pub", tmp_path)
        assert told.returncode == 0, told.stderr
        again = new.fab("restore", "--from", str(backup))
        assert again.returncode == 1
        assert "has accounts or results of its own: restore to a new one" in again.stderr


def restart_sshd(gateway: Gateway) -> None:
    """It reads its host keys at its start; its clients know the one that it has now."""
    gateway.kill("sshd")
    gateway.start("sshd")
    public = (gateway.root / f"{HOST_KEY}.pub").read_text()
    (gateway.home / ".ssh/known_hosts").write_text(f"127.0.0.1 {public}")
