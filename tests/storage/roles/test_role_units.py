"""Director and worker under a real systemd, with their gateway: what runs a job, what stops it.

One container is all of them, with systemd's own sandbox. Its kernel need not have the controllers
by which that limits memory: systemd was asked to, and that is what is seen here. The tests are one
walk, in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kim_edn
import pytest

from deploys.services.secure import SECURE
from tests.pipeline import world
from tests.storage.gateway.booted import Booted, booted
from tests.storage.gateway.gateway import OWNERS, layered

pytestmark = pytest.mark.boot  # of systemd, in a container

WORKER, DIRECTOR = "pipeline-worker@1.service", "pipeline-director.service"
PASSWORD = "her own pass word"
RESULTS = "/srv/pipeline/results/ada"
LONG = "Long_fcc_Al__TE_000000000911_000"
SQL = "/usr/lib/gateway/database sql"


@pytest.fixture(scope="module")
def box(gateway_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A box that was given a key, on the gateway that gave it; it has items and their Model."""
    with layered(gateway_root, tmp_path_factory.mktemp("layers")) as root:
        items = root / "persistent/gateway/srv/items"
        world.repository(items, f"id -un; cat /proc/net/dev; {world.GOOD}")
        (root / "usr/lib/x/kim-api/portable-models" / world.MODEL).mkdir(parents=True)
        with booted(root) as made:
            able = "echo memory pids >/run/able && mount --bind /run/able "
            made.run("sh", "-c", f"{able} /sys/fs/cgroup/cgroup.controllers")
            made.run(OWNERS, "add", "ada", stdin=f"{PASSWORD}\n")
            key = made.run(OWNERS, "hostkey").strip()
            words = ("--role=devel", "--site=127.0.0.1", "--username=ada", f"--host-key={key}")
            made.run(SECURE, *words, "--password-fd=0", stdin=f"{PASSWORD}\n")
            yield made


def submitted(box: Booted, kimid: str) -> None:
    box.run(*SQL.split(), stdin=f"select pipeline.submit('{kimid}', 1, 'approved')")


def report(box: Booted, service: str) -> dict[str, Any]:
    """What a service tells the status page."""
    text = box.run("cat", f"/run/pipeline/status.d/{service}/report.json")
    content: dict[str, Any] = json.loads(text)
    return content


def test_an_update_becomes_a_result(box: Booted) -> None:
    box.run("systemctl", "start", DIRECTOR, WORKER)
    submitted(box, world.MODEL)
    box.succeeds(f"grep -q . {RESULTS}/*/results.edn", deadline=60)
    said = box.run("sh", "-c", f"cat {RESULTS}/*/pipeline.stdout").splitlines()
    assert said[0] == "pipeline-job-0"
    assert [line.split()[0] for line in said[1:] if ":" in line] == ["lo:"]
    spec = kim_edn.loads(box.run("sh", "-c", f"cat {RESULTS}/*/pipelinespec.edn"))
    assert spec["provenance"]["sandbox"] == "systemd"
    assert spec["provenance"]["reset"] == "fresh"
    box.succeeds('grep -q "job done" /run/pipeline/status.d/worker-1/report.json')
    assert report(box, "worker-1")["jobs"] == {"done": 1, "failed": 0}
    assert report(box, "director")["queue"]["link"] == "up"


def disks(box: Booted) -> list[str]:
    """The mounts of disks of jobs."""
    return box.run("sh", "-c", "grep /cell- /proc/mounts; true").splitlines()


def running_long(box: Booted) -> None:
    box.succeeds("systemctl list-units 'pipeline-job-*' --state=active | grep -q running")
    box.succeeds("cat /var/tmp/pipeline/1/*/*/pipeline.stdout | grep -q began")


def test_a_box_that_goes_down_gives_its_job_back(box: Booted) -> None:
    """All units are stopped at once then: a job that ended first would have failed."""
    items = Path(f"/proc/{box.pid}/root/persistent/gateway/srv/items")
    world.make_test(items, f"echo began; sleep 54324; {world.GOOD}", LONG)
    submitted(box, LONG)
    running_long(box)
    box.run("systemctl", "stop", WORKER, "pipeline-job-*")
    ready = "select count(*) from pipeline.jobs where state = 'ready'"
    box.succeeds(f'[ "$(echo "{ready}" | {SQL})" = 1 ]')
    assert "54324" not in box.run("ps", "-eo", "args")
    assert not box.run("sh", "-c", f"ls -d {RESULTS}/TE_000000000911* 2>/dev/null; true")
    assert "failed" not in box.run("journalctl", "-u", DIRECTOR, "--output=cat")


def test_a_worker_that_is_killed_takes_its_job_with_it_and_comes_back(box: Booted) -> None:
    box.run("systemctl", "start", WORKER)
    running_long(box)
    [mount] = disks(box)
    box.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", WORKER)
    box.succeeds("! ps -eo args | grep -v grep | grep -q 54324")
    runner = f"/persistent/pipeline/items/{LONG}/runner"
    box.run("sh", "-c", f"printf '#!/bin/sh\\n{world.GOOD}\\n' >{runner}")
    box.succeeds(f"grep -q . {RESULTS}/TE_000000000911*/results.edn", deadline=60)
    assert box.property(WORKER, "NRestarts") == "1"
    assert [line.split()[1] for line in disks(box)] == [mount.split()[1]]  # the last one's is gone
    box.run("systemctl", "stop", WORKER)
    box.succeeds("! grep -q /cell- /proc/mounts")


def test_without_a_key_nothing_starts(box: Booted) -> None:
    box.run("mv", "/persistent/pipeline/ssh/id_ed25519", "/persistent/pipeline/key")
    for unit in (WORKER, DIRECTOR):
        box.run("systemctl", "restart", unit)
        assert box.property(unit, "ActiveState") == "inactive", unit
    box.run("mv", "/persistent/pipeline/key", "/persistent/pipeline/ssh/id_ed25519")


@pytest.mark.parametrize("verdict", ["golden", "failed"])
def test_on_a_root_that_is_not_fresh_nothing_starts(box: Booted, verdict: str) -> None:
    box.run("sh", "-c", f"rm -f /run/resnap/*; : >/run/resnap/{verdict}")
    for unit in (WORKER, DIRECTOR):
        box.run("systemctl", "restart", unit)
        assert box.property(unit, "ActiveState") == "inactive", unit
